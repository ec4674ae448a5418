"""The information bottleneck as a channel of known noise, and the network that sets it.

The literal form of the paper (equation 8 with a learned p(z | x)) bounds nothing and collapses; the
chapter on the module shows it. Here noise with the moments of the features takes the place of what
is taken away, so that the information which still comes through has a closed-form upper bound.
Nats throughout; `keep` is the paper's alpha (1 keeps all), the opposite of the patent's.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from milr.taps import as_locations

# The least share of noise: a channel without any would let infinitely much through.
LEAST_NOISE = 1e-6


def inject(x: Tensor, keep: Tensor, mean: Tensor, std: Tensor, noise: Tensor) -> Tensor:
    """x' = keep * x + (1 - keep) * (mean + std * noise), element by element.

    x, noise: local features (..., C) and standard normal numbers of that shape; keep broadcasts to
    them, in [0, 1]; mean, std: moments of the features per channel, (C,). Patent text, item 4, with
    the features' own moments in place of N(0, 1). Where keep is 1 there is no noise and all passes,
    more than `capacity` says, which counts a share of 1e-6.
    """
    return keep * x + (1 - keep) * (mean + std * noise)


def capacity(x: Tensor, keep: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """KL of the channel's output given x from N(mean, std^2), per element, in nats, at least 0.

    x: (..., C); keep broadcasts to it, in [0, 1); mean, std: (C,). Summed over the channels of a
    location and averaged over samples it is an upper bound on I(x'; X), and so on what x' can tell
    of z (equation 8 for a known channel). With a = 1 - keep and r = (x - mean) / std it is
    -ln a + (a^2 + keep^2 r^2 - 1) / 2. The noise share a is clipped at 1e-6 (13.8 nats).
    Raises ValueError for a keep outside [0, 1].
    """
    if bool((keep < 0).any()) or bool((keep > 1).any()):
        raise ValueError(
            f"keep runs from {float(keep.min()):.3g} to {float(keep.max()):.3g}; "
            "it is the share of x that is kept and must lie in [0, 1]"
        )
    noise = (1 - keep).clamp(min=LEAST_NOISE)
    r = (x - mean) / std
    return -noise.log() + 0.5 * (noise**2 + (1 - noise) ** 2 * r**2 - 1)


class MaskNetwork(nn.Module):
    """Infers from the evidence at a location which share of each channel is kept there.

    The 1 x 1 convolutions of section 3.4.2 of the paper, written as linear layers on locations.
    evidence: number of channels of each layer that it sees; channels: of the local features. It
    starts open, with a keep of `start` everywhere, so that training begins at the undisturbed
    decision and closes what can be spared.
    """

    def __init__(self, evidence: Sequence[int], channels: int, widths=(128, 64), start=0.95):
        super().__init__()
        first, second = widths
        self.first = nn.ModuleList(nn.Linear(width, first) for width in evidence)
        self.middle = nn.Linear(first, second)
        self.last = nn.Linear(second, channels)
        nn.init.normal_(self.last.weight, std=0.01)
        nn.init.constant_(self.last.bias, math.log(start / (1 - start)))

    def forward(self, evidence: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
        """Standardised outputs of the layers, maps or tokens, to keep (B, N, channels).

        shape: of the locations, (H, W) or (N,). Maps are brought to that grid (bilinear) after the
        first layer, which gives the same as before it and costs a fraction. They are laid over each
        other by the middle of cells, though padded convolutions look elsewhere: laid by their
        outermost locations instead, they gave maps no better on validation species. Raises
        ValueError for outputs that are neither maps (B, C, h, w) nor tokens (B, N, C).
        """
        # In lower precision a keep near 1 becomes 1, at which its price has no gradient.
        with torch.autocast(evidence[0].device.type, enabled=False):
            parts = zip(self.first, evidence, strict=True)
            hidden = sum(_on_grid(layer, output, shape) for layer, output in parts)
            return self.last(self.middle(hidden.relu()).relu()).sigmoid()


class MaskNetworks(nn.ModuleList):
    """Several mask networks, whose mean is the mask: it depends less on where each began."""

    def forward(
        self, evidence: Sequence[Tensor], shape: tuple[int, ...], turn: int | None = None
    ) -> Tensor:
        """As `MaskNetwork.forward`. turn: for learning, each image is masked by one network alone,
        the first image by network number turn, the next one by the next, and so on around.
        """
        if turn is None:
            return torch.stack([network(evidence, shape) for network in self]).mean(0)
        images = torch.arange(len(evidence[0]))
        own = [images[(i - turn) % len(self) :: len(self)] for i in range(len(self))]
        parts = [
            network([output[rows] for output in evidence], shape)
            for network, rows in zip(self, own, strict=True)
        ]
        return torch.cat(parts)[torch.cat(own).argsort()]


def _on_grid(layer: nn.Linear, output: Tensor, shape: tuple[int, ...]) -> Tensor:
    columns = layer(as_locations(output, "evidence").to(layer.weight))
    if output.dim() == 4 and output.shape[2:] != shape:
        maps = columns.transpose(1, 2).unflatten(2, output.shape[2:])
        maps = F.interpolate(maps, shape, mode="bilinear", align_corners=False)
        columns = as_locations(maps, "evidence")
    return columns
