"""What an explanation consists of: a number per location, in bits."""

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

BITS = 1 / math.log(2)


@dataclass(frozen=True)
class Maps:
    """Maps of B images over their locations, (B, H, W), in bits; (B, N) for tokens.

    total: information of a location about the representation, pointwise (signed) or surprise (at
        least 0), as it was asked for; pointwise, its mean over samples is a lower bound on
        I(x_i; z), at most `ceiling`.
    decision: the same for what comes through the bottleneck, with a critic of its own; as surprise,
        the move away from what a closed bottleneck leaves believed.
    capacity: upper bound on what the bottleneck lets through at the location; at least 0.
    ceiling: log2 of the number of samples that were compared; an average near it is saturated.
    """

    total: Tensor
    decision: Tensor
    capacity: Tensor
    ceiling: float

    @property
    def redundant(self) -> Tensor:
        """Total minus decision: signed, unclamped (equation 9, one location)."""
        return self.total - self.decision

    @property
    def negative_share(self) -> float:
        """Share of locations whose redundant information is estimated below 0."""
        return float((self.redundant < 0).float().mean())

    @property
    def saturated(self) -> bool:
        """Whether a location's average exceeds 0.8 of the ceiling, where InfoNCE hides more."""
        return bool((self.total.mean(0) > 0.8 * self.ceiling).any())

    def resized(self, size: int | tuple[int, int]) -> "Maps":
        """The maps at another resolution (bilinear), each location still in bits per location.

        Raises ValueError for maps of tokens, which have no places in the image that are known here.
        """
        return self._changed(lambda m: _resize(m, size))

    def __len__(self) -> int:
        return len(self.total)

    def __getitem__(self, index) -> "Maps":
        return self._changed(lambda m: m[index])

    def _changed(self, change) -> "Maps":
        return Maps(change(self.total), change(self.decision), change(self.capacity), self.ceiling)


def concatenate(parts: list[Maps]) -> Maps:
    """One `Maps` of several, in order."""
    names = [field.name for field in fields(Maps) if field.name != "ceiling"]
    return Maps(*(torch.cat([getattr(p, name) for p in parts]) for name in names), parts[0].ceiling)


def _resize(maps: Tensor, size: int | tuple[int, int]) -> Tensor:
    if maps.dim() != 3:
        raise ValueError(
            f"maps of shape {tuple(maps.shape)} are of tokens; bring them to (B, H, W) first, as "
            "the model lays its tokens out"
        )
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
