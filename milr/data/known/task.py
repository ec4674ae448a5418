"""A task: a distribution of pairs whose information is known, and what it is known by."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy import ndarray
from numpy.random import Generator


@dataclass(frozen=True)
class Task:
    """Pairs (x, z) and the truth about them, in nats.

    truth: I(x; z); for a feature map the mean over locations of I(x_n; z).
    draw: from a generator and n to x, (n, dx) or (n, N, C), and z, (n, dz).
    log_ratio: log p(x, z) / p(x) p(z) of pairs, (n,); (n, N) for a feature map.
    log_marginal: log p(z) of (n, dz), (n,).
    locations: of a feature map, I(x_n; z) of each location.
    """

    name: str
    family: str
    truth: float
    draw: Callable[[Generator, int], tuple[ndarray, ndarray]]
    log_ratio: Callable[[ndarray, ndarray], ndarray]
    log_marginal: Callable[[ndarray], ndarray]
    locations: tuple[float, ...] | None = None

    def sample(self, n: int, seed: int) -> tuple[ndarray, ndarray]:
        """n independent pairs; the same for the same seed, and other ones for each task."""
        words = [seed, *self.name.encode()]
        return self.draw(np.random.default_rng(words), n)

    def channel(self, x: ndarray, z: ndarray) -> ndarray:
        """log p(z | x) of pairs, (n,): what the upper bounds with a known channel ask for."""
        return self.log_ratio(x, z) + self.log_marginal(z)


@dataclass(frozen=True)
class Warp:
    """An invertible map of (n, d), and log |det| of its inverse's derivative at the image.

    Where the image has more dimensions than what was mapped, there is no such determinant; a task
    then uses the warp for x, of which only the inverse is asked.
    """

    forward: Callable[[ndarray], ndarray]
    inverse: Callable[[ndarray], ndarray]
    log_slope: Callable[[ndarray], ndarray]


def warped(task: Task, name: str, family: str, x: Warp, z: Warp) -> Task:
    """The task seen through invertible maps of x and of z, which keep its information."""

    def draw(random: Generator, n: int):
        a, b = task.draw(random, n)
        return x.forward(a), z.forward(b)

    return replace(
        task,
        name=name,
        family=family,
        draw=draw,
        log_ratio=lambda a, b: task.log_ratio(x.inverse(a), z.inverse(b)),
        log_marginal=lambda b: task.log_marginal(z.inverse(b)) + z.log_slope(b),
    )
