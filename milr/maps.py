"""What an explanation consists of: a number per location, in bits."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Integral, Real

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

BITS = 1 / math.log(2)
MIDDLE = (0.5, 0.5)


@dataclass(frozen=True)
class Maps:
    """Maps of B images over their locations, (B, H, W), in bits; (B, N) for tokens.

    total: information of a location about the representation, pointwise (signed) or surprise (at
        least 0), as it was asked for; pointwise, its mean over samples like those of the bank is
        a lower bound on I(x_i; z), at most `ceiling`.
    decision: the same for what comes through the bottleneck, with a critic of its own; as surprise,
        the move away from what a closed bottleneck leaves believed.
    capacity: its mean over samples is an upper bound on what the bottleneck lets through at the
        location; at least 0.
    ceiling: log2 of the number of samples that were compared; an average near it is saturated.
    offset: where in its cell a location looks, down and across (`milr.taps.offset`).
    """

    total: Tensor
    decision: Tensor
    capacity: Tensor
    ceiling: float
    offset: tuple[float, float] = MIDDLE

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

        A location's value stands where it looks, by `offset`. Raises ValueError for maps of tokens,
        which have no places in the image that are known here.
        """
        return self._changed(lambda m: resize(_of_places(m), size, self.offset), MIDDLE)

    def __len__(self) -> int:
        return len(self.total)

    def __getitem__(self, index) -> "Maps":
        """The maps of some of the images; those of one, by its number, are (1, ...), too.

        Raises ValueError for an index by which they are no maps of images any more.
        """
        index = index.item() if getattr(index, "shape", None) == () else index
        one = isinstance(index, Integral) and not isinstance(index, bool)
        some = [index] if one else index
        if self.total[some].dim() != self.total.dim():
            raise ValueError(
                f"maps indexed by {index!r} are no maps of images any more; give numbers of "
                "images, a slice or a mask, and index one kind (maps.total) for more"
            )
        return self._changed(lambda m: m[some])

    def _changed(self, change: Callable, offset: tuple[float, float] | None = None) -> "Maps":
        kinds = (change(kind) for kind in (self.total, self.decision, self.capacity))
        return Maps(*kinds, self.ceiling, offset or self.offset)


def concatenate(parts: list[Maps]) -> Maps:
    """One `Maps` of several, in order.

    Raises ValueError if they were read against other numbers of samples or look elsewhere.
    """
    if len({(part.ceiling, part.offset) for part in parts}) != 1:
        raise ValueError(
            "the maps have several ceilings or offsets; give those of one explainer and layer, "
            "read with as many negatives"
        )
    kinds = zip(*((part.total, part.decision, part.capacity) for part in parts), strict=True)
    return Maps(*(torch.cat(kind) for kind in kinds), parts[0].ceiling, parts[0].offset)


def resize(
    maps: Tensor, size: int | tuple[int, int], offset: tuple[float, float] = MIDDLE
) -> Tensor:
    """Maps (B, h, w) at another resolution (bilinear), each value still a location's own.

    offset: where in its cell a location looks, down and across; beyond the outermost ones, their
    values go on. Raises ValueError for another size than (height, width), or one number for both,
    and for maps of tokens.
    """
    height, width = _sides(size)
    maps = _of_places(maps)
    if tuple(maps.shape[1:]) == (height, width) and offset == MIDDLE:
        return maps
    rows, columns = (
        # Where each pixel lies between the locations; grid_sample has -1 and 1 at the outer edges.
        (torch.arange(n, device=maps.device) + 0.5) * (2 / n) + (1 - 2 * place) / cells - 1
        for n, cells, place in zip((height, width), maps.shape[-2:], offset, strict=True)
    )
    places = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).to(maps)
    places = places.expand(len(maps), -1, -1, -1)
    how = {"mode": "bilinear", "padding_mode": "border", "align_corners": False}
    return F.grid_sample(maps[:, None], places, **how)[:, 0]


def shared(maps: Tensor, total: Tensor, width: float, power: float = 2.0) -> Tensor:
    """Maps (B, H, W) weighted at each place by how much it knows beside the places around it.

    Neighbours see much the same of an image, and so each has what all of them know: the map of a
    layer is wide where a small thing is known. Here a place's own value is multiplied by w / (mean
    of w around it), w being a power of what it knows in total. Where neighbours know equally much,
    nothing changes; where one knows more, and the map is even, it is as if their bits were shared
    out anew. The values stay in the unit of bits, but are no information any more, and no bound.
    total: (B, H, W), at least 0, such as the surprise total of a finer layer, at the maps'
    resolution. width: standard deviation of the Gaussian that says what is around, in pixels.
    power: 0 leaves the maps as they are. A width of one location of the maps' layer and the power 2
    were chosen on validation species (`milr.evaluation.tried`). To w a thousandth of its mean over
    the image is added, so that there is something to divide by.
    Raises ValueError for other shapes, a total that is somewhere negative or not finite, a width
    not above 0 or a negative power.
    """
    if maps.shape != total.shape or maps.dim() != 3:
        raise ValueError(
            f"maps have shape {tuple(maps.shape)} and the total {tuple(total.shape)}; give both as "
            "(B, H, W), at one resolution (`milr.maps.resize`)"
        )
    if not ((total >= 0) & total.isfinite()).all():
        raise ValueError(
            f"the total lies between {total.min():g} and {total.max():g}; give finite numbers that "
            'are never negative, as reading="surprise" gives them'
        )
    if not width > 0:
        raise ValueError(f"width is {width}; give a deviation in pixels, above 0")
    if not power >= 0:
        raise ValueError(f"power is {power}; give 0 or more")
    # In shares of its largest, so that no power of it leaves the range of numbers.
    largest = total.amax((1, 2), keepdim=True)
    weights = (total / largest.clamp(min=torch.finfo(total.dtype).tiny)).pow(power)
    weights = weights + 1e-3 * weights.mean((1, 2), keepdim=True)
    # Reflected at the edges, which a window may not exceed.
    sides = [2 * min(math.ceil(2.5 * width), side - 1) + 1 for side in maps.shape[:0:-1]]
    around = gaussian_blur(weights[:, None], sides, [float(width)] * 2)[:, 0]
    return torch.where(around > 0, maps * weights / around, maps)


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    sides = tuple(size) if isinstance(size, Iterable) else (size, size)
    if len(sides) != 2 or not all(
        isinstance(side, Real) and math.isfinite(side) and side == int(side) >= 1 for side in sides
    ):
        raise ValueError(
            f"size is {size!r}; give (height, width) in pixels, whole numbers of 1 or more"
        )
    return tuple(map(int, sides))


def _of_places(maps: Tensor) -> Tensor:
    if maps.dim() != 3:
        raise ValueError(
            f"maps of shape {tuple(maps.shape)} are of tokens; bring them to (B, H, W) first, as "
            "the model lays its tokens out"
        )
    return maps
