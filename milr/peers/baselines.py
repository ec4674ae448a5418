"""Maps that know nothing of the decision. What they reach is what a lucky picture is worth."""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from milr import taps
from milr.peers.peer import Method
from milr.peers.targets import Target


def edges(model: nn.Module, images: Tensor, target: Target | None = None) -> Tensor:
    """Sobel's edge strength of the mean over colour channels; neither model nor target is used.

    images: (B, C, H, W); (B, H, W), at least 0.
    """
    found = []
    # Image by image: scipy's filter would smooth along the batch, too.
    for grey in images.detach().mean(1).cpu().numpy():
        found.append(np.hypot(ndimage.sobel(grey, axis=0), ndimage.sobel(grey, axis=1)))
    return torch.from_numpy(np.stack(found))


def centred(width: float = 0.25) -> Method:
    """A Gaussian in the middle; width: its standard deviation in shares of the image's sides.

    Maps (B, H, W) of images (B, C, H, W), all the same.
    """

    def method(model: nn.Module, images: Tensor, target: Target) -> Tensor:
        row, column = (
            torch.exp(-0.5 * ((torch.arange(n) + 0.5) / n - 0.5) ** 2 / width**2)
            for n in images.shape[-2:]
        )
        return (row[:, None] * column).expand(len(images), -1, -1)

    return method


def random(cell: int = 4) -> Method:
    """Uniform numbers, one for each cell of so many pixels a side: as fine as a layer's map."""

    def method(model: nn.Module, images: Tensor, target: Target) -> Tensor:
        height, width = images.shape[-2:]
        return torch.rand(len(images), -(-height // cell), -(-width // cell))

    return method


def activation_norm(layer: str) -> Method:
    """Length of a location's feature vector in a layer of maps: (B, h, w), on its grid."""

    def method(model: nn.Module, images: Tensor, target: Target) -> Tensor:
        with torch.no_grad(), taps.read(model, (layer,)) as outputs:
            model(images)
        return outputs[layer].norm(dim=1)

    return method
