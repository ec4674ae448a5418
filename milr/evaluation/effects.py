"""Does a map follow what happens when parts are exchanged? Part by part, image by image.

What a map holds on a part is the sum of its values there: an exchange changes the whole part, and a
large part may hold much although each of its places holds little. A large part also moves a network
more, so that even a map of random numbers follows to a degree. That is why there is a null beside
each correlation: the same maps, each laid over another image.
"""

from collections.abc import Sequence

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
    means = torch.stack(list(part_means(maps, labels, names).values()), dim=1)
    areas = torch.stack([(labels == index).sum((1, 2)) for index in range(len(names))], dim=1)
    return means * areas


def following(maps: Tensor, labels: Tensor, names: Sequence[str], effects: Tensor) -> Tensor:
    """Rank correlation over the parts of each image of its map with the effects: (B,).

    effects: (P, B), one for each part of `names` that is exchanged, NaN where it is missing. 0 for
    an image on which either is constant: such a map follows nothing.
    """
    held = part_sums(maps, labels, names).numpy()
    return torch.from_numpy(np.nan_to_num(rank_correlation(held, effects.T.double().numpy())))


def null(
    maps: Tensor, labels: Tensor, names: Sequence[str], effects: Tensor, seed: int = 0
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
        found.append(following(dealt, labels, names, effects))
    return torch.stack(found).mean(0)


def spared(moved: Tensor, decided: Tensor) -> Tensor:
    """Which parts move the representation and not the decision: (P, B), between -1 and 1.

    moved, decided: (P, B), how far each part's exchange moves either, at least 0. A part's share of
    all movement of an image's representation, minus its share of all movement of the decision.
    """
    return moved / moved.sum(0) - decided / decided.sum(0)
