"""What maps hold where, for several explainers at once: the numbers below the paper's figures.

A region is a part or several, given by masks (B, h, w) as in `localisation`. Every number is a
`Ratio` of totals over images, so that one bootstrap over networks, explainers and images serves
for all of them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from milr.evaluation import localisation
from milr.evaluation.localisation import Ratio
from milr.evaluation.statistics import Interval, hierarchical, ratio
from milr.maps import Maps

KINDS = ("total", "decision", "capacity", "redundant")
RESAMPLES = 1000
CHUNK = 50

Table = Sequence[Sequence[Mapping[str, Ratio]]]  # networks, explainers of each, measures


def region_masks(
    labels: Tensor, part_names: Sequence[str], regions: Mapping[str, Sequence[str]]
) -> dict[str, Tensor]:
    """Boolean masks (B, h, w) of regions, each the union of its parts.

    labels: (B, h, w) integers, an index into part_names. Regions that no image has are left out.
    Raises ValueError for a part without a label.
    """
    if unknown := {p for parts in regions.values() for p in parts} - set(part_names):
        raise ValueError(
            f"no part {', '.join(sorted(unknown))}; give some of {', '.join(part_names)}"
        )
    labels = labels.cpu().long()
    masks = {
        region: torch.isin(labels, torch.tensor([part_names.index(part) for part in parts]))
        for region, parts in regions.items()
    }
    return {region: mask for region, mask in masks.items() if mask.any()}


def measures(maps: Maps, masks: Mapping[str, Tensor]) -> dict[str, Ratio]:
    """Numbers of each kind of map on each region, `KIND.WHAT.REGION` -> Ratio.

    energy:   the map's positive values there, over what an even spread of them would put there
    mass:     share of the map's positive values that lies there
    lift:     the signed mean there over the mean everywhere
    bits:     the signed mean there, bits per location
    pointing: share of images whose largest value lies there (`localisation.pointing`)
    `redundant.share.REGION` is the redundant part of the total there, both summed over images: it
    says nothing where the total does not add up to more than 0 (`is_defined`).
    `redundant.negative` is the share of locations with a negative estimate.
    maps: of B images, (B, H, W), brought to the resolution of the masks, (B, h, w) each. Raises
    ValueError for maps of tokens.
    """
    size = next(iter(masks.values())).shape[-2:]
    sharp = maps.resized(tuple(size))
    values = torch.stack([getattr(sharp, kind) for kind in KINDS], -1).flatten(1, 2).double()
    regions = torch.stack([mask.float() for mask in masks.values()], 1).flatten(2)
    chunks = zip(values.split(CHUNK), regions.split(CHUNK), strict=True)
    sums = zip(*(_sums(*chunk) for chunk in chunks), strict=True)
    there, positive, pointed, area = (torch.cat(parts) for parts in sums)
    everywhere, positive_everywhere = values.mean(1), values.clamp(min=0).mean(1)
    one = torch.ones(len(values), dtype=torch.float64)
    found = {}
    for r, region in enumerate(masks):
        for k, kind in enumerate(KINDS):
            spread, positive_spread = everywhere[:, k], positive_everywhere[:, k]
            found[f"{kind}.energy.{region}"] = Ratio(
                positive[:, r, k], positive_spread * area[:, r]
            )
            found[f"{kind}.mass.{region}"] = Ratio(
                positive[:, r, k], positive_spread * values.shape[1]
            )
            found[f"{kind}.lift.{region}"] = Ratio(there[:, r, k], spread * area[:, r])
            found[f"{kind}.bits.{region}"] = Ratio(there[:, r, k], area[:, r])
            found[f"{kind}.pointing.{region}"] = Ratio(pointed[:, r, k], one)
        total, redundant = (there[:, r, KINDS.index(kind)] for kind in ("total", "redundant"))
        found[f"redundant.share.{region}"] = Ratio(redundant, total)
    negative = (maps.redundant < 0).double().mean((1, 2))
    found["redundant.negative"] = Ratio(negative, one)
    return found


def _sums(values: Tensor, regions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of values (B, pixels, kinds) on regions (B, R, pixels): what lies there, its positive part,
    where the largest value lies, all (B, R, kinds), and the areas (B, R).

    One product for all: thousands of small sums, each with large intermediates, would tear the
    memory into holes.
    """
    largest = (values == values.amax(1, keepdim=True)).double()
    largest = largest / largest.sum(1, keepdim=True)
    weights = regions.double()
    inside = (weights >= 0.5).double()
    return weights @ values, weights @ values.clamp(min=0), inside @ largest, weights.sum(2)


def nearness(maps: Tensor, parts: Tensor, size: tuple[int, int]) -> Ratio:
    """Distance of maps (B, H, W) from their nearest part, over that of an even spread; 1 for one.

    parts: (B, P, 3) x, y, visible in pixels of images of `size`. Positive values count. An image
    without a visible part, or a map without a positive value, adds 0 to both sums.
    """
    near = _nearest(localisation.distance_to_parts(maps, parts, size))
    evenly = _nearest(localisation.distance_to_parts(torch.ones_like(maps), parts, size))
    known = near.isfinite() & evenly.isfinite()
    return Ratio(near.where(known, 0.0), evenly.where(known, 0.0))


def is_defined(table: Table, key: str) -> bool:
    """Whether the denominators of a measure add up to more than 0: for every explainer, and for
    nearly all draws of networks, explainers and images. Else an interval says nothing.
    """
    if any(found[key].denominators.sum() <= 0 for row in table for found in row):
        return False
    _, denominators = _there(*_arrays(table, key))
    return hierarchical(denominators, np.sum, resamples=RESAMPLES).low > 0


def interval(table: Table, key: str) -> Interval:
    """A measure with its interval over networks, explainers and the images that have the region.

    table: for each network and explainer, measure -> Ratio, (images,) each; key: the measure.
    Raises ValueError for one whose denominators do not add up to more than 0 (`is_defined`).
    """
    pair = _there(*_arrays(table, key))
    _check(key, *pair)
    return _holding(hierarchical(pair, ratio, resamples=RESAMPLES))


def difference(table: Table, key: str, other: str) -> Interval:
    """One measure minus another one, of the same networks, explainers and images.

    Draws in which no image has one of the regions are left out. Raises ValueError as `interval`.
    """

    def statistic(a, b, c, d):
        return ratio(a, b) - ratio(c, d)

    arrays = (*_arrays(table, key), *_arrays(table, other))
    _check(key, *arrays[:2])
    _check(other, *arrays[2:])
    with np.errstate(invalid="ignore"):
        return _holding(hierarchical(arrays, statistic, resamples=RESAMPLES))


def _check(key: str, numerators: np.ndarray, denominators: np.ndarray) -> None:
    if np.isnan(ratio(numerators, denominators)):
        raise ValueError(
            f"the denominators of {key} add up to {denominators.sum():.3g}, so it says nothing: "
            "no image has the region, or signed maps sum to nothing (`is_defined` tells before)"
        )


def _arrays(table: Table, key: str) -> tuple:
    """Numerators and denominators, (networks, explainers, images) each."""
    pairs = [[torch.stack(found[key].pair) for found in row] for row in table]
    stacked = torch.stack([torch.stack(row) for row in pairs])
    return tuple(stacked.movedim(2, 0).numpy())


def _there(numerators: np.ndarray, denominators: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the images that have the region."""
    counted = (denominators != 0).any((0, 1))
    return numerators[..., counted], denominators[..., counted]


def _holding(found: Interval) -> Interval:
    """A percentile interval of a ratio can miss its value by a hair, with few images."""
    low, high = min(found.low, found.value), max(found.high, found.value)
    return Interval(found.value, low, high, found.level)


def _nearest(distances: Tensor) -> Tensor:
    return distances.nan_to_num(nan=torch.inf).amin(1)
