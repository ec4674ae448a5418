"""The inverse network, the signals that it makes of a prediction, and its attribution.

After the pseudocode in the review's section on MIP-IN (Deng et al., 2021); the package's docstring
says how what is open there is read.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from milr import taps
from milr.peers.mip_in.layers import POOLING, Gate, indicator, invert
from milr.peers.mip_in.reading import Reading, read
from milr.peers.peer import Peer
from milr.peers.targets import Target


def as_it_is(outputs: Tensor) -> Tensor:
    """The prediction is the model's output (B, ...), for a classifier its logits."""
    return outputs


class InverseNetwork(nn.Module):
    """As many layers as the model has stages; the lowest first, as in the model.

    image:   (1, ...), an input, to learn the shapes from
    down_to: a layer of the model: only what comes after it is inverted, and the lowest signal is
             one of this layer's features; None for all, down to the image
    pooling: how max-pooling is undone, "learned" or "switches"
    prediction: what of the model's output (B, ...) is taken for the prediction Y

    Until it is fitted, its weights mean nothing. Raises ValueError for another pooling, and as
    `reading.read` does.
    """

    def __init__(
        self,
        model: nn.Module,
        image: Tensor,
        down_to: str | None = None,
        *,
        pooling: str = "learned",
        prediction: Callable[[Tensor], Tensor] = as_it_is,
        seed: int = 0,
    ):
        super().__init__()
        if pooling not in POOLING:
            raise ValueError(f"pooling is {pooling!r}; give one of {', '.join(POOLING)}")
        self.down_to, self.prediction = down_to, prediction
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            stages = read(model, image, down_to).stages
            self.layers = nn.ModuleList(invert(stage, pooling) for stage in stages)

    @property
    def names(self) -> list[str]:
        """The model's layers that its own layers invert, the lowest first."""
        return [layer.stage.name for layer in self.layers]

    def reading(self, model: nn.Module, image: Tensor) -> Reading:
        """Of a model with the same stages. Raises ValueError for another one."""
        found = read(model, image, self.down_to)
        mine, theirs = (
            [(stage.kind, stage.given, stage.made) for stage in stages]
            for stages in ([layer.stage for layer in self.layers], found.stages)
        )
        if mine != theirs:
            raise ValueError(
                f"the model has stages {theirs}, and the inverse network was made for {mine}; "
                "make one for this model and these images"
            )
        return found

    def down(
        self, signal: Tensor, features: dict[str, Tensor], gate: Gate = indicator
    ) -> list[Tensor]:
        """The signal at the input of each stage, the lowest first, from one at the output.

        This is the pseudocode of the method: from the top, each layer reconstructs what was before
        its stage, and the gate closes where the model's activation was 0. signal: (B, ...);
        features: of the same images, as `features_of` gives them.
        """
        found = []
        for layer in reversed(self.layers):
            signal = layer(signal, features, gate)
            if layer.stage.gated:
                signal = signal * gate(features[layer.stage.key])
            found.append(signal)
        return found[::-1]


@torch.no_grad()
def features_of(
    network: InverseNetwork, model: nn.Module, images: Tensor, batch: int = 256
) -> dict[str, Tensor]:
    """What the model makes of images (n, ...), all that the inverse network needs, by key.

    On the model's device, to which the inverse network is brought as well. Raises ValueError for a
    model with other stages than the network was made for.
    """
    device = taps.device_of(model)
    network.to(device)
    reading = network.reading(model, images[:1])
    parts = [reading.features(chunk.to(device)) for chunk in images.split(batch)]
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


@torch.no_grad()
def signals(
    network: InverseNetwork, model: nn.Module, images: Tensor, gate: Gate = indicator
) -> list[Tensor]:
    """The source signal at the input of every stage, the lowest first, of images (B, ...).

    The review's S: of the model's own prediction, (B, ...) in the shape of the stage's input.
    Raises ValueError as `features_of` does.
    """
    features = features_of(network, model, images)
    return network.down(network.prediction(features["prediction"]), features, gate)


def attribution(
    network: InverseNetwork,
    model: nn.Module,
    images: Tensor,
    target: Target,
    gate: Gate = indicator,
) -> Tensor:
    """What the weights alone make of the target, at the input of the lowest stage: (B, ...).

    The target's gradient at the output is the direction that is asked, for `class_logit` the class
    itself; it goes through the layers without their offsets, and with the images' gates. Raises
    ValueError as `features_of` does, and if the network's prediction is not the output as it is:
    the target is one of those.
    """
    if network.prediction is not as_it_is:
        raise ValueError(
            "this inverse network starts from something else than the model's outputs, and a "
            "target is one of those; make and fit one with prediction=as_it_is"
        )
    features = features_of(network, model, images)
    outputs = features["prediction"].detach().requires_grad_()
    with torch.enable_grad():
        (asked,) = torch.autograd.grad(target(outputs).sum(), outputs)
    with torch.no_grad():
        lowest = network.down(asked, features, gate)[0]
        # The layers are affine, so this leaves their weights' part.
        return lowest - network.down(torch.zeros_like(asked), features, gate)[0]


def mip_in_peer(network: InverseNetwork) -> Peer:
    """A fitted inverse network as a peer: the sizes of its attribution, summed over channels.

    As of a gradient, which is also a weight of the network, the size counts and not the sign. That
    was chosen on training pictures of drawn birds, where it matches boxes better than the sum.
    """

    def method(model: nn.Module, images: Tensor, target: Target) -> Tensor:
        return attribution(network, model, images, target).abs().sum(1)

    return Peer("MIP-IN", network.down_to or "input", "label", method)


def signed_peer(network: InverseNetwork) -> Peer:
    """The same with its signs: the sum of the attribution over channels."""

    def method(model: nn.Module, images: Tensor, target: Target) -> Tensor:
        return attribution(network, model, images, target).sum(1)

    return Peer("MIP-IN, signed", network.down_to or "input", "label", method, signed=True)
