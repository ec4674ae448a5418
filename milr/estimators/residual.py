"""A deeper critic, and one that starts from the samples' normal and learns the rest.

The log-ratio of a normal is a product of a few numbers of x and as many of z, so that it is a
separable critic whose weights are known from canonical correlations. A network on top need only
learn how the samples depart from it; in many dimensions, where a network alone memorises, that is
what is left to be read.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor, nn

from milr.infonce import SeparableCritic

CLOSEST = 0.9999  # a correlation of 1 would make infinite scores
START = 0.1  # of the network's share, so that training begins near the normal


class DeepCritic(SeparableCritic):
    """f(x, z) = g(x) . h(z) / sqrt(width), with two hidden layers on each side.

    local, representation: number of channels of x and of z.
    """

    def __init__(self, local: int, representation: int, width: int = 64):
        super().__init__(local, representation, width)
        self.local, self.representation = (_layers(n, width) for n in (local, representation))


class ResidualCritic(nn.Module):
    """f(x, z) = gain * network(x, z) + the weighted products of the last `columns` columns.

    local, representation: number of channels of x and of z, with those of `with_normal`, which says
    how many `columns` there are. The weights start at 1, where f is the normal's log-ratio, and
    learn, so that a normal that does not fit gets out of the way.
    """

    def __init__(self, local: int, representation: int, width: int = 64):
        super().__init__()
        self.columns = columns = min(local, representation) // 2 + 1
        self.network = DeepCritic(local - columns, representation - columns, width)
        self.width = self.network.width
        self.gain = nn.Parameter(torch.tensor(START))
        self.weights = nn.Parameter(torch.ones(columns))

    def embed(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """(K, N, C) and (K, D) to (K, N, width + columns) and (K, width + columns)."""
        sides = [torch.split(s, [s.shape[-1] - self.columns, self.columns], -1) for s in (x, z)]
        learned = self.network.embed(*(side[0] for side in sides))
        return tuple(torch.cat([a, side[1]], -1) for a, side in zip(learned, sides, strict=True))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Scores (M, N, K) of local features (M, N, C) beside representations (K, D)."""
        return self.score(*self.embed(x, z))

    def score(self, u: Tensor, v: Tensor) -> Tensor:
        """Scores (M, N, K) of embedded (M, N, width + columns) and (K, width + columns)."""
        c = self.columns
        learned = self.network.score(u[..., :-c], v[..., :-c])
        return self.gain * learned + (u[..., -c:] * self.weights) @ v[..., -c:].T


def with_normal(pairs: Sequence[tuple[ndarray, ndarray]]) -> list[tuple[ndarray, ndarray]]:
    """Parts (n, 1, dx) and (n, dz), each with min(dx, dz) + 2 more columns, whose products are f.

    It is fitted to the first part. Canonical correlations below what noise alone would give are
    taken as 0.
    """
    x, z = pairs[0][0][:, 0], pairs[0][1]
    maps_x, maps_z = (_whitening(side) for side in (x, z))
    left, rho, right = np.linalg.svd((x @ maps_x).T @ (z @ maps_z) / len(x), full_matrices=False)
    rho = np.minimum(
        np.where(rho > _edge(x.shape[1] / len(x), z.shape[1] / len(x)), rho, 0), CLOSEST
    )
    rest = 1 - rho**2
    found = []
    for a, b in ((side[:, 0], other) for side, other in pairs):
        a_seen, b_seen = a @ maps_x @ left, b @ maps_z @ right.T
        alone_a, alone_b = (-0.5 * (s**2 * rho**2 / rest).sum(1) for s in (a_seen, b_seen))
        alone_b = alone_b - 0.5 * np.log(rest).sum()
        one = np.ones_like(alone_a)
        columns_a = np.column_stack([a_seen * rho / rest, alone_a, one])
        columns_b = np.column_stack([b_seen, one, alone_b])
        found.append((np.hstack([a, columns_a])[:, None], np.hstack([b, columns_b])))
    return found


def _layers(inputs: int, width: int) -> nn.Module:
    sizes = (inputs, 2 * width, 2 * width)
    hidden = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.GELU())]
    return nn.Sequential(*hidden, nn.Linear(2 * width, width))


def _whitening(values: ndarray) -> ndarray:
    """(d, d), the map to uncorrelated columns of deviation 1; the columns have mean 0 already."""
    sizes, directions = np.linalg.eigh(values.T @ values / len(values))
    return directions / np.sqrt(np.maximum(sizes, 1e-9 * sizes[-1]))


def _edge(a: float, b: float) -> float:
    """The largest canonical correlation of independent sides, in the limit (Wachter 1980)."""
    a, b = min(a, 0.5), min(b, 0.5)
    return 1.05 * (np.sqrt(a * (1 - b)) + np.sqrt(b * (1 - a)))
