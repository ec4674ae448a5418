"""Does a map follow what happens when parts are exchanged? Part by part, image by image.

What a map holds on a part is the sum of its values there: an exchange changes the whole part, and a
large part may hold much although each of its places holds little. A large part also moves a network
more, so that even a map of random numbers follows to a degree. That is why there is a null beside
each correlation: the same maps, each laid over another image.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from milr.evaluation.localisation import part_means
from milr.evaluation.statistics import rank_correlation

DEALS = 10


def part_sums(maps: Tensor, labels: Tensor, names: Sequence[str]) -> Tensor:
    """What maps (B, H, W) hold on each part: (B, P) float64, NaN where an image lacks it.

    labels: (B, h, w) integers, an index into names. Signs count.
    """
    means = mean_on_parts(maps, labels, names)
    areas = torch.stack([(labels == index).sum((1, 2)) for index in range(len(names))], dim=1)
    return means * areas


def mean_on_parts(maps: Tensor, labels: Tensor, names: Sequence[str]) -> Tensor:
    """The mean of maps on each part, as `part_sums`: what a place of the part holds."""
    return torch.stack(list(part_means(maps, labels, names).values()), dim=1)


def following(held: Tensor, effects: Tensor) -> Tensor:
    """Rank correlation over the parts of each image of what its map holds with the effects: (B,).

    held: (B, P), as the functions above give it; effects: (P, B), what exchanging each part did. 0
    for an image on which either is constant: such a map follows nothing.
    """
    found = rank_correlation(held.numpy(), effects.T.double().numpy())
    return torch.from_numpy(np.nan_to_num(found))


def null(
    maps: Tensor,
    labels: Tensor,
    names: Sequence[str],
    effects: Tensor,
    hold: Callable[..., Tensor] = part_sums,
    seed: int = 0,
) -> Tensor:
    """`following` with each image's map replaced by another image's, mean over `DEALS` deals: (B,).

    What is left is what the method would get by knowing where birds usually sit and how large
    their parts are. Raises ValueError for fewer than two images.
    """
    if len(maps) < 2:
        raise ValueError(f"{len(maps)} map; give two or more, so that they can be dealt out anew")
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(DEALS):
        # Along a random ring, so that no image gets its own.
        ring = torch.from_numpy(draw.permutation(len(maps)))
        dealt = torch.empty_like(maps)
        dealt[ring] = maps[ring.roll(1)]
        found.append(following(hold(dealt, labels, names), effects))
    return torch.stack(found).mean(0)


def spared(moved: Tensor, decided: Tensor) -> Tensor:
    """Which parts move the representation and not the decision: (P, B), between -1 and 1.

    moved, decided: (P, B), how far each part's exchange moves either, at least 0. A part's share of
    all movement of an image's representation, minus its share of all movement of the decision.
    """
    return moved / moved.sum(0) - decided / decided.sum(0)
