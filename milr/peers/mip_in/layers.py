"""Layers that go from the signal after a stage of the model to the signal before it.

Every one is called with the signal (B, ...) after the stage, the model's own features of the same
images by key, and the gate; given those two, each is an affine function of the signal. Fully
connected layers, convolutions and max-pooling are named in the review's section on MIP-IN (Deng et
al., 2021); mean pooling and residual blocks are added to them.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from milr.peers.mip_in.reading import Stage

Gate = Callable[[Tensor], Tensor]
POOLING = ("learned", "switches")


def indicator(features: Tensor) -> Tensor:
    """The review's gate: 1 where the model's activation is not 0, else 0.

    features: (B, ...), and so is the gate. "Indication" in the review's section on MIP-IN.
    """
    return (features != 0).to(features.dtype)


def open_gate(features: Tensor) -> Tensor:
    """1 everywhere: the signal then depends on the prediction alone.

    features: (B, ...), and so is the gate.
    """
    return torch.ones_like(features)


class Inverse(nn.Module):
    """What all of them share: the stage's shapes. Each has its own `undo`, of the stage's core."""

    def __init__(self, stage: Stage):
        super().__init__()
        self.stage = stage

    def forward(self, signal: Tensor, features: Mapping[str, Tensor], gate: Gate) -> Tensor:
        """The signal before the stage, (B, *given), from that after it, (B, *made) or flattened.

        features: the model's own, by key. given and made are the shapes of the `Stage`.
        """
        signal = self.undo(signal.reshape(-1, *self.stage.made), features[self.stage.key])
        return signal.reshape(-1, *self.stage.given)


class FullyConnected(Inverse):
    """A fully connected layer from the outputs to the inputs, with an offset."""

    def __init__(self, stage: Stage):
        super().__init__(stage)
        self.layer = nn.Linear(stage.core.out_features, stage.core.in_features)

    def undo(self, signal: Tensor, features: Tensor) -> Tensor:
        """(B, outputs) to (B, inputs); no use is made of the features."""
        return self.layer(signal)


class Convolution(Inverse):
    """A transposed convolution with the kernel's size, stride, dilation and groups."""

    def __init__(self, stage: Stage):
        super().__init__(stage)
        core = stage.core
        self.padding = core.padding
        self.layer = nn.ConvTranspose2d(
            core.out_channels, core.in_channels, core.kernel_size, core.stride,
            groups=core.groups, dilation=core.dilation,
        )  # fmt: skip

    def undo(self, signal: Tensor, features: Tensor) -> Tensor:
        """(B, C_out, h', w') to (B, C_in, h, w); no use is made of the features."""
        return _cut(self.layer(signal), self.padding, self.stage.inner[-2:])


class Pooling(Inverse):
    """A pooling's windows filled again: for every channel a weight at each place of the window.

    It starts by giving each place the pooled value.
    """

    def __init__(self, stage: Stage):
        super().__init__(stage)
        core, channels = stage.core, stage.inner[0]
        if isinstance(core, nn.AdaptiveAvgPool2d):
            pairs = zip(stage.inner[-2:], stage.made[-2:], strict=True)
            size = stride = tuple(a // b for a, b in pairs)
            self.padding = (0, 0)
        else:
            size, stride = _pair(core.kernel_size), _pair(core.stride)
            self.padding = _pair(core.padding)
        dilation = getattr(core, "dilation", 1)
        self.layer = nn.ConvTranspose2d(
            channels, channels, size, stride, groups=channels, dilation=dilation
        )
        nn.init.ones_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def undo(self, signal: Tensor, features: Tensor) -> Tensor:
        """(B, C, h', w') to (B, C, h, w); no use is made of the features."""
        return _cut(self.layer(signal), self.padding, self.stage.inner[-2:])


class Switches(Inverse):
    """Puts each value where the image had the maximum, and 0 elsewhere; nothing to learn.

    A place that is the maximum of several windows gets their mean.
    """

    def forward(self, signal: Tensor, features: Mapping[str, Tensor], gate: Gate) -> Tensor:
        """(B, *made) to (B, *given), by the features that went into the pooling; without a gate."""
        signal = self.undo(signal.reshape(-1, *self.stage.made), features[self.stage.pooled])
        return signal.reshape(-1, *self.stage.given)

    def undo(self, signal: Tensor, features: Tensor) -> Tensor:
        """(B, C, h', w') to the shape of the features before the pooling, (B, C, h, w)."""
        core = self.stage.core
        _, places = F.max_pool2d(
            features, core.kernel_size, core.stride, core.padding, core.dilation,
            ceil_mode=core.ceil_mode, return_indices=True,
        )  # fmt: skip
        empty = torch.zeros_like(features).flatten(2)
        filled = empty.scatter_reduce(
            2, places.flatten(2), signal.flatten(2), "mean", include_self=False
        )
        return filled.reshape(features.shape)


class Shortcut(nn.Module):
    """The inverse of a side without layers: a weight for each channel.

    shape: of the signal, without the batch.
    """

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        columns = (shape[0], *(1 for _ in shape[1:]))
        self.weight = nn.Parameter(torch.ones(columns))

    def forward(self, signal: Tensor, features: Mapping[str, Tensor], gate: Gate) -> Tensor:
        """(B, C, ...) to (B, C, ...); no use is made of features and gate."""
        return self.weight * signal


class Residual(nn.Module):
    """A residual block: both of its sides are inverted, and what they say is added up."""

    def __init__(self, stage: Stage, pooling: str):
        super().__init__()
        self.stage = stage
        self.sides = nn.ModuleList(
            nn.ModuleList([invert(one, pooling) for one in side] or [Shortcut(stage.given)])
            for side in stage.sides
        )
        # The shorter side alone is a good start, so the longer one begins by saying nothing.
        longer = max(self.sides, key=len)
        if isinstance(longer[0], FullyConnected | Convolution):
            nn.init.zeros_(longer[0].layer.weight)
            nn.init.zeros_(longer[0].layer.bias)

    def forward(self, signal: Tensor, features: Mapping[str, Tensor], gate: Gate) -> Tensor:
        """The signal before the block, (B, *given), of that after it, as `Inverse.forward`."""
        signal = signal.reshape(-1, *self.stage.made)
        return sum(self._side(side, signal, features, gate) for side in self.sides)

    def _side(self, layers: nn.ModuleList, signal: Tensor, features, gate: Gate) -> Tensor:
        for position in reversed(range(len(layers))):
            signal = layers[position](signal, features, gate)
            if position:
                # The block's own input is gated once, by whoever runs the block.
                signal = signal * gate(features[layers[position].stage.key])
        return signal


def invert(stage: Stage, pooling: str) -> nn.Module:
    """The layer that inverts a stage; pooling: "learned" or "switches", for max-pooling."""
    if stage.kind == "residual":
        return Residual(stage, pooling)
    if stage.kind == "max-pool" and pooling == "switches":
        return Switches(stage)
    kinds = {"fully connected": FullyConnected, "convolution": Convolution}
    return kinds.get(stage.kind, Pooling)(stage)


def _cut(signal: Tensor, padding: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Without the padding, and of this size: places that no window reached are 0."""
    top, left = padding
    height, width = size
    bottom, right = height + top - signal.shape[-2], width + left - signal.shape[-1]
    return F.pad(signal, (-left, right, -top, bottom))


def _pair(given: int | tuple[int, int]) -> tuple[int, int]:
    return (given, given) if isinstance(given, int) else tuple(given)
