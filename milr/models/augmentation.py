"""Random views of training images; (B, 3, H, W) uint8 in and out, each image on its own."""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional

from milr.data.images import augment

LUMA = (0.299, 0.587, 0.114)


def strong(images: Tensor, generator: Generator) -> Tensor:
    """For few photographs: a flipped, turned and enlarged part, in other light and colour.

    (B, 3, H, W) uint8 in and out, each image on its own.
    """
    views = _moved(images.float(), generator)
    return _coloured(views, generator).round().clamp(0, 255).to(torch.uint8)


def _moved(images: Tensor, generator: Generator) -> Tensor:
    """Flip half, turn by up to 15 degrees, show 40 to 100 % of the area, up to 4:3 wide or high."""
    count = len(images)
    area = _uniform(count, 0.4, 1.0, generator)
    stretch = _uniform(count, -0.5 * math.log(4 / 3), 0.5 * math.log(4 / 3), generator).exp()
    angle = _uniform(count, -math.pi / 12, math.pi / 12, generator)
    flip = torch.where(_uniform(count, -1, 1, generator) < 0, -1.0, 1.0)
    wide, high = area.sqrt() * stretch, area.sqrt() / stretch
    # The part lies inside the image where it is smaller than the image.
    right = _uniform(count, -1, 1, generator) * (1 - wide).clamp_min(0)
    down = _uniform(count, -1, 1, generator) * (1 - high).clamp_min(0)
    rows = [
        torch.stack([flip * wide * angle.cos(), -high * angle.sin(), right], 1),
        torch.stack([flip * wide * angle.sin(), high * angle.cos(), down], 1),
    ]
    grid = functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def _coloured(images: Tensor, generator: Generator) -> Tensor:
    """Brightness, contrast and saturation, each times 0.6 to 1.4."""
    brightness, contrast, saturation = (
        _uniform(len(images), 0.6, 1.4, generator)[:, None, None, None] for _ in range(3)
    )
    images = images * brightness
    grey = (images * torch.tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    images = grey + (images - grey) * saturation
    mean = grey.mean((2, 3), keepdim=True)
    return mean + (images - mean) * contrast


def _uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)


AUGMENTATIONS = {"mild": augment, "strong": strong}
