"""Relevance that is handed back layer by layer, through zennit.

Both methods begin at the model's outputs with output times gradient of the target: a classifier's
logit itself, or what each number of an embedding adds to the score to first order. Batch
normalisation is merged into the convolution before it. They take images (B, C, H, W), and their
maps (B, H, W) are sums over the channels.
"""

import torch
from torch import Tensor, nn
from zennit.composites import EpsilonPlusFlat, SpecialFirstLayerMapComposite, layer_map_base
from zennit.rules import ZBox, ZPlus
from zennit.torchvision import ResNetCanonizer
from zennit.types import Convolution, Linear

from milr.data.images import normalise
from milr.peers.targets import Target


def layer_wise_relevance(model: nn.Module, images: Tensor, target: Target) -> Tensor:
    """Layer-wise relevance propagation, signed, (B, H, W): what each location contributes.

    Bach et al., On Pixel-Wise Explanations, 2015; the combination of rules of Kohlbrenner et al.,
    Towards Best Practice in Explaining Neural Network Decisions with LRP, 2020, which zennit calls
    EpsilonPlusFlat: epsilon for dense layers, z+ for convolutions, flat for the first one.
    """
    composite = EpsilonPlusFlat(canonizers=[ResNetCanonizer()])
    return _propagated(model, images, composite, _contributions(model, images, target))


def deep_taylor(model: nn.Module, images: Tensor, target: Target) -> Tensor:
    """Deep Taylor decomposition, at least 0, (B, H, W).

    Montavon et al., Explaining NonLinear Classification Decisions with Deep Taylor Decomposition,
    2017: the z+ rule for every convolution and dense layer and, for the first, the z^B rule, which
    knows between which values pixels can lie (`milr.data.images.normalise` of 0 and 255). The
    method decomposes positive relevance, so it begins with the positive contributions alone.
    """
    low, high = (
        normalise(torch.full((1, 3, 1, 1), value, dtype=torch.uint8)) for value in (0, 255)
    )
    composite = SpecialFirstLayerMapComposite(
        layer_map=[*layer_map_base(), (Linear, ZPlus())],
        first_map=[(Convolution, ZBox(low.to(images.device), high.to(images.device)))],
        canonizers=[ResNetCanonizer()],
    )
    start = _contributions(model, images, target).clamp(min=0)
    return _propagated(model, images, composite, start)


@torch.no_grad()
def _contributions(model: nn.Module, images: Tensor, target: Target) -> Tensor:
    """Output times gradient of the target, in the outputs' shape."""
    outputs = model(images)
    with torch.enable_grad():
        outputs.requires_grad_()
        (gradient,) = torch.autograd.grad(target(outputs).sum(), outputs)
    return outputs * gradient


def _propagated(model: nn.Module, images: Tensor, composite, start: Tensor) -> Tensor:
    images = images.detach().clone().requires_grad_()
    with composite.context(model) as ruled:
        (relevance,) = torch.autograd.grad(ruled(images), images, grad_outputs=start)
    return relevance.sum(1)
