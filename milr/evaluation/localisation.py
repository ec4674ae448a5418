"""Do maps point at the right places? Compared with part masks, boxes and part locations.

Maps are (B, H, W) float in any unit and at any resolution, and are brought to the resolution of
what they are compared with, by the middle of cells; maps of a layer that looks elsewhere come
through `Maps.resized` first. They may be signed (the total map is); each function says what it
makes of negative values. Masks are (B, h, w), Boolean or the covered share of each pixel in
[0, 1]. Labels are (B, h, w) integers, an index into the names of the parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from milr.evaluation import checks


@dataclass(frozen=True, eq=False)
class Ratio:
    """A ratio of totals over images, with what each image adds to it.

    numerators, denominators: (B,) float64; an image without the part adds 0 to both
    """

    numerators: torch.Tensor
    denominators: torch.Tensor

    @property
    def value(self) -> float:
        """Sum of numerators by sum of denominators.

        Raises ValueError if the denominators do not add up to more than 0: no image has the part,
        or signed maps sum to nothing.
        """
        total = self.denominators.sum()
        if total <= 0:
            raise ValueError(
                f"the denominators add up to {total:.3g}, so the ratio says nothing; leave out "
                "parts that no image has, and clamp signed maps (maps.clamp(min=0))"
            )
        return (self.numerators.sum() / total).item()

    @property
    def per_image(self) -> torch.Tensor:
        """(B,) the ratio of each image on its own; NaN where its denominator is 0."""
        alone = self.numerators / self.denominators
        return alone.where(self.denominators != 0, torch.nan)

    @property
    def pair(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What `milr.evaluation.statistics.ratio_interval` takes."""
        return self.numerators, self.denominators


def resize(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Maps (B, H, W) at another resolution (h, w), bilinear, pixel centres aligned.

    Where it is coarser, a pixel has the mean around it, so that none is passed over. float64, on
    the CPU.
    """
    maps = maps.detach().cpu().double()
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    coarser = any(new < old for new, old in zip(size, maps.shape[-2:], strict=True))
    how = {"mode": "bilinear", "align_corners": False, "antialias": coarser}
    return F.interpolate(maps[:, None], tuple(size), **how)[:, 0]


def lift(maps: torch.Tensor, masks: torch.Tensor) -> Ratio:
    """How many times more of the map lies on a part than if it were spread evenly.

    The mean of the map on the part over its mean everywhere: what the maps hold on the part, by
    what each image's total would put there if spread evenly, both summed over images. 1 for a
    constant map. Negative values count as negative; for maps whose totals may cancel, clamp them
    first or use `positive_share`. maps: (B, H, W); masks: (B, h, w). Raises ValueError if they
    differ in number.
    """
    maps, masks = aligned(maps, masks)
    evenly = maps.mean(dim=(1, 2)) * masks.sum(dim=(1, 2))
    return Ratio((maps * masks).sum(dim=(1, 2)), evenly)


def positive_share(maps: torch.Tensor, masks: torch.Tensor) -> Ratio:
    """Share of a map's positive values that lies in a mask; negative values count as 0.

    maps: (B, H, W); masks: (B, h, w). Of each image on its own it is the relevance mass accuracy of
    Arras et al., CLEVR-XAI, 2022. To be compared with `area_share`, which is what a constant map
    gets. Raises ValueError if maps and masks differ in number.
    """
    maps, masks = aligned(maps, masks)
    positive = maps.clamp(min=0)
    return Ratio((positive * masks).sum(dim=(1, 2)), positive.sum(dim=(1, 2)))


def area_share(masks: torch.Tensor) -> Ratio:
    """Share of the image that a mask covers; masks: (B, h, w).

    Raises ValueError for masks beyond 0 and 1.
    """
    checks.masks(masks)
    masks = masks.cpu().double()
    everywhere = torch.full((len(masks),), float(masks[0].numel()), dtype=torch.float64)
    return Ratio(masks.sum(dim=(1, 2)), everywhere)


def pointing(maps: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """The pointing game: (B,) 1 where the map's largest value lies in the mask, else 0.

    Zhang et al., Top-Down Neural Attention by Excitation Backprop, 2016. maps: (B, H, W); masks:
    (B, h, w). Several equally large values count by their share in the mask, so that a constant map
    gets the mask's area and not luck. Signs stay as they are. A pixel counts as in the mask if at
    least half of it is covered. Raises ValueError if maps and masks differ in number.
    """
    maps, masks = aligned(maps, masks)
    largest = maps == maps.amax(dim=(1, 2), keepdim=True)
    return (largest & (masks >= 0.5)).sum(dim=(1, 2)) / largest.sum(dim=(1, 2)).double()


def part_means(
    maps: torch.Tensor, labels: torch.Tensor, part_names: Sequence[str]
) -> dict[str, torch.Tensor]:
    """Mean of the map on each part, in the map's unit and with its signs.

    maps: (B, H, W); labels: (B, h, w), an index into part_names.
    Returns part -> (B,) float64, NaN in images that lack the part.
    Raises ValueError for a label without a name, another number of maps, or NaN in them.
    """
    checks.placed(maps)
    checks.labels(labels)
    checks.one_each(maps=len(maps), labels=len(labels))
    labels = labels.cpu().long()
    if labels.max() >= len(part_names):
        raise ValueError(
            f"there is a label {labels.max()} and {len(part_names)} names of parts; give the "
            "names that belong to these labels"
        )
    values = resize(maps, labels.shape[-2:]).flatten(1)
    flat = labels.flatten(1)
    empty = torch.zeros(len(flat), len(part_names), dtype=torch.float64)
    totals = empty.scatter_add(1, flat, values)
    areas = empty.scatter_add(1, flat, torch.ones_like(values))
    return dict(zip(part_names, (totals / areas).unbind(1), strict=True))


def strongest_part(
    maps: torch.Tensor,
    labels: torch.Tensor,
    part_names: Sequence[str],
    candidates: Sequence[str] | None = None,
) -> list[str | None]:
    """For each image the part on which the map's mean is largest; None if it has none of them,
    or several on which it is equally large, as those of a constant map are.

    maps: (B, H, W); labels: (B, h, w), an index into part_names. candidates: the parts to choose
    among; all if None. Signs stay as they are.
    Raises ValueError for a candidate that is no part, and a label without a name.
    """
    candidates = list(part_names if candidates is None else candidates)
    if unknown := set(candidates) - set(part_names):
        raise ValueError(
            f"no part {', '.join(sorted(unknown))}; give some of {', '.join(part_names)}"
        )
    means = part_means(maps, labels, part_names)
    table = torch.stack([means[name] for name in candidates], dim=1).nan_to_num(nan=-torch.inf)
    best, index = table.max(dim=1)
    alone = (table == best[:, None]).sum(1) == 1
    return [
        candidates[i] if known else None
        for known, i in zip((alone & best.isfinite()).tolist(), index.tolist(), strict=True)
    ]


def box_masks(boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(B, h, w) covered share of each pixel, from boxes (B, 4): x, y, width, height in pixels."""
    x, y, width, height = boxes.cpu().double().unbind(1)
    rows = _covered(y, height, size[0])
    columns = _covered(x, width, size[1])
    return rows[:, :, None] * columns[:, None, :]


def part_discs(parts: torch.Tensor, size: tuple[int, int], radius: float = 0.06) -> torch.Tensor:
    """(B, P, h, w) Boolean discs around part locations, for use as masks.

    parts:  (B, P, 3) x, y, visible in pixels of images of `size`; no disc where not visible
    radius: in shares of the image's height
    """
    far = (_distances(places, size) for places in parts)
    discs = torch.stack([image / size[0] <= radius for image in far])
    return discs & (parts[..., 2].cpu() > 0)[..., None, None]


def distance_to_parts(
    maps: torch.Tensor, parts: torch.Tensor, size: tuple[int, int]
) -> torch.Tensor:
    """(B, P) mean distance of a map's positive values from each part, in shares of the height.

    parts: (B, P, 3) x, y, visible in pixels of images of `size`. NaN where a part is not visible
    or a map has no positive value; negative values count as 0. `torch.ones` as maps gives what a
    constant map gets.
    """
    checks.placed(maps)
    checks.one_each(maps=len(maps), parts=len(parts))
    weights = resize(maps, size).clamp(min=0)
    weights = weights / weights.sum(dim=(1, 2), keepdim=True)
    # Image by image: all distances at once would take gigabytes.
    mean = [
        torch.einsum("hw,phw->p", w, _distances(places, size))
        for w, places in zip(weights, parts, strict=True)
    ]
    return (torch.stack(mean) / size[0]).masked_fill(parts[..., 2].cpu() <= 0, torch.nan)


def aligned(maps: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Raises ValueError for maps that are not finite, and masks of another number or unit."""
    checks.placed(maps)
    checks.masks(masks)
    checks.one_each(maps=len(maps), masks=len(masks))
    return resize(maps, masks.shape[-2:]), masks.detach().cpu().double()


def _covered(start: torch.Tensor, length: torch.Tensor, count: int) -> torch.Tensor:
    """(B, count) share of each unit interval that [start, start + length] covers."""
    left = torch.arange(count, dtype=torch.float64)
    low = torch.maximum(left, start[:, None])
    high = torch.minimum(left + 1, (start + length)[:, None])
    return (high - low).clamp(min=0)


def _distances(places: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(P, h, w) distance in pixels of each pixel's centre from each place (P, 2 or more)."""
    x, y = places[:, 0].cpu().double(), places[:, 1].cpu().double()
    rows = torch.arange(size[0], dtype=torch.float64) + 0.5 - y[:, None]
    columns = torch.arange(size[1], dtype=torch.float64) + 0.5 - x[:, None]
    return torch.hypot(rows[:, :, None], columns[:, None, :])
