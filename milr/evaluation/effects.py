"""Does a map follow what happens when parts are exchanged? Part by part.

What a map holds on a part is the sum of its values there: an exchange changes the whole part, and a
large part may hold much although each of its places holds little. A large part also moves a network
more, so that even a map of random numbers follows to a degree. That is why there is a null beside
each correlation: the same maps, each laid over another image.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from milr.evaluation.localisation import Ratio, part_means

DEALS = 10


def mean_on_parts(maps: Tensor, labels: Tensor, names: Sequence[str]) -> Tensor:
    """Mean of maps (B, H, W) on each part: (B, P) float64, NaN where an image lacks it.

    labels: (B, h, w) integers, an index into names. Signs count. Times `areas`, it is the sum.
    """
    return torch.stack(list(part_means(maps, labels, names).values()), dim=1)


def areas(labels: Tensor, names: Sequence[str]) -> Tensor:
    """How many pixels each part has: (B, P); labels: (B, h, w) integers, an index into names."""
    return torch.stack([(labels == index).sum((1, 2)) for index in range(len(names))], dim=1)


def dealt(maps: Tensor, labels: Tensor, names: Sequence[str], seed: int = 0) -> Tensor:
    """`mean_on_parts` of maps that are laid over other images, `DEALS` times: (DEALS, B, P).

    maps, labels, names: as there. For a null: what is left is what a method would get by knowing
    where birds usually sit and how large their parts are. Raises ValueError for fewer than two
    images.
    """
    if len(maps) < 2:
        raise ValueError(f"{len(maps)} map; give two or more, so that they can be dealt out anew")
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(DEALS):
        # Along a random ring, so that no image gets its own.
        ring = torch.from_numpy(draw.permutation(len(maps)))
        other = torch.empty_like(maps)
        other[ring] = maps[ring.roll(1)]
        found.append(mean_on_parts(other, labels, names))
    return torch.stack(found)


def following(held: Tensor, effects: Tensor) -> Tensor:
    """Rank correlation over the parts of each image of what its map holds with the effects: (B,).

    held: (B, P), NaN for parts that are not there, or several of them, (..., B, P), for (..., B);
    effects: (P, B), what exchanging each part did.
    0 for an image whose map is constant, since such a map follows nothing; NaN for one on which the
    effects are, or are not known, since there is nothing to follow.
    """
    a, b = (_ranks(values) for values in _both(held, effects))
    sizes = [np.sqrt(np.nansum(ranks * ranks, axis=-1)) for ranks in (a, b)]
    together, norm = np.nansum(a * b, axis=-1), sizes[0] * sizes[1]
    found = np.divide(together, norm, out=np.zeros_like(norm), where=norm > 0)
    return torch.from_numpy(np.where(sizes[1] > 0, found, np.nan))


def following_pooled(held: Tensor, effects: Tensor) -> Ratio:
    """The same over all parts of all images together: what each image, (..., B), adds to it.

    Its value is Spearman's correlation, and images can be drawn again: the ranks stay those of all,
    and no draw leads beyond 1. It rewards maps that are strong as a whole on images where every
    exchange does much, as where the network is unsure: gradients of a log-probability are, wherever
    they lie.
    """
    a, b = (_ranks(values.reshape(*values.shape[:-2], -1)) for values in _both(held, effects))
    a, b = (np.nan_to_num(ranks).reshape(held.shape) for ranks in np.broadcast_arrays(a, b))
    sizes = [np.sqrt((ranks**2).sum((-2, -1), keepdims=True)) for ranks in (a, b)]
    a, b = (r / np.where(size > 0, size, np.inf) for r, size in zip((a, b), sizes, strict=True))
    # Of unit length both: their product is the correlation, and over any images at most this mean.
    most = (a**2 + b**2).sum(-1) / 2
    constant = np.minimum(*sizes)[..., 0] == 0
    most = np.where(constant, 1 / held.shape[-2], most)
    return Ratio(torch.from_numpy((a * b).sum(-1)), torch.from_numpy(most))


def spared(moved: Tensor, decided: Tensor) -> Tensor:
    """Which parts move the representation and not the decision: (P, B), between -1 and 1.

    moved, decided: (P, B), how far each part's exchange moves either, at least 0. A part's share of
    all movement of an image's representation, minus its share of all movement of the decision. NaN
    for an image on which no part moves either at all.
    """
    return moved / moved.sum(0) - decided / decided.sum(0)


def _both(held: Tensor, effects: Tensor) -> tuple[np.ndarray, np.ndarray]:
    a = held.double().numpy()
    return a, np.where(np.isnan(a), np.nan, effects.T.double().numpy())


def _ranks(values: np.ndarray) -> np.ndarray:
    """Of each row, centred; NaN stays NaN."""
    ranks = stats.rankdata(values, axis=-1, nan_policy="omit")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice")
        return ranks - np.nanmean(ranks, axis=-1, keepdims=True)
