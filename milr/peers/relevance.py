"""Relevance that is handed back layer by layer, through zennit.

Both methods begin at the model's outputs with output times gradient of the target: a classifier's
logit itself, or what each number of an embedding adds to the score to first order. Batch
normalisation is merged into the convolution before it. They take images (B, C, H, W), and their
maps (B, H, W) are sums over the channels.
"""

import torch
from torch import Tensor, nn
from zennit.composites import EpsilonPlusFlat, SpecialFirstLayerMapComposite, layer_map_base
from zennit.core import BasicHook, Stabilizer
from zennit.layer import Sum
from zennit.rules import NoMod, ZBox, ZPlus
from zennit.torchvision import ResNetCanonizer
from zennit.types import BatchNorm, Convolution, Linear

from milr import doors
from milr.data.images import normalise
from milr.peers.peer import is_close
from milr.peers.targets import Target

# The layers with weights that the rules are for. Others zennit passes by, or, attention in some of
# its versions, takes for a rectifier.
RULED = Convolution, Linear, BatchNorm, nn.PReLU


class PositiveSum(BasicHook):
    """z+ where branches are added: relevance goes to what is above 0, in proportion."""

    def __init__(self):
        stabilised = Stabilizer.ensure(1e-6)
        super().__init__(
            input_modifiers=[lambda x: x.clamp(min=0)],
            param_modifiers=[NoMod(param_keys=[])],
            output_modifiers=[lambda x: x],
            gradient_mapper=lambda gradient, outputs: gradient / stabilised(outputs[0]),
            reducer=lambda inputs, gradients: inputs[0] * gradients[0],
        )


def layer_wise_relevance(model: nn.Module, images: Tensor, target: Target) -> Tensor:
    """Layer-wise relevance propagation, signed, (B, H, W): what each location contributes.

    Bach et al., On Pixel-Wise Explanations, 2015; the combination of rules of Kohlbrenner et al.,
    Towards Best Practice in Explaining Neural Network Decisions with LRP, 2020, which zennit calls
    EpsilonPlusFlat: epsilon for dense layers, z+ for convolutions, flat for the first one.
    """
    composite = EpsilonPlusFlat(canonizers=[ResNetCanonizer()])
    outputs, start = _contributions(model, images, target)
    return _propagated(model, images, composite, outputs, start)


def deep_taylor(model: nn.Module, images: Tensor, target: Target) -> Tensor:
    """Deep Taylor decomposition, at least 0, (B, H, W).

    Montavon et al., Explaining NonLinear Classification Decisions with Deep Taylor Decomposition,
    2017: the z+ rule for every convolution and dense layer, and where a residual network adds its
    branches, and for the first layer the z^B rule, which knows between which values pixels can lie
    (`milr.data.images.normalise` of 0 and 255). The method decomposes positive relevance, so it
    begins with the positive contributions alone.
    """
    low, high = (
        normalise(torch.full((1, 3, 1, 1), value, dtype=torch.uint8)) for value in (0, 255)
    )
    composite = SpecialFirstLayerMapComposite(
        layer_map=[(Sum, PositiveSum()), *layer_map_base(), (Linear, ZPlus())],
        first_map=[(Convolution, ZBox(low.to(images.device), high.to(images.device)))],
        canonizers=[ResNetCanonizer()],
    )
    outputs, start = _contributions(model, images, target)
    return _propagated(model, images, composite, outputs, start.clamp(min=0))


@torch.no_grad()
def _contributions(model: nn.Module, images: Tensor, target: Target) -> tuple[Tensor, Tensor]:
    """The outputs, and these times the gradient of the target."""
    outputs = model(images)
    doors.tensor(outputs)
    with torch.enable_grad():
        outputs.requires_grad_()
        (gradient,) = torch.autograd.grad(target(outputs).sum(), outputs)
    return outputs.detach(), outputs.detach() * gradient


def _propagated(model: nn.Module, images: Tensor, composite, outputs: Tensor, start: Tensor):
    """Raises ValueError for a model that zennit reads as another one, or not at all."""
    for name, module in model.named_modules():
        alone = isinstance(module, nn.MultiheadAttention) or next(module.children(), None) is None
        if alone and not isinstance(module, RULED) and next(module.parameters(), None) is not None:
            raise _misfit(f"{name} is a {type(module).__name__}")
    images = images.detach().clone().requires_grad_()
    try:
        with composite.context(model) as ruled:
            found = ruled(images)
            same = is_close(found.detach(), outputs, 0.03)
            if same:
                (relevance,) = torch.autograd.grad(found, images, grad_outputs=start)
    except (RuntimeError, TypeError) as error:
        raise _misfit(error) from error
    if not same:
        raise ValueError(
            "with batch normalisation merged into the convolution before it, the model gives other "
            "outputs, and their relevance would be that of another network; a rectifier, or "
            "anything else, may stand between the two"
        )
    return relevance.sum(1)


def _misfit(why: object) -> ValueError:
    return ValueError(
        f"zennit's rules do not fit this model ({why}); they know networks of convolutions, "
        "rectifiers, pooling and dense layers, whose batch normalisation follows a convolution"
    )
