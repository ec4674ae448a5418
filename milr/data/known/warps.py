"""Invertible maps: they change what the samples look like, and no information."""

import numpy as np
from numpy import ndarray
from scipy.special import ndtr, ndtri
from scipy.stats import norm

from milr.data.known.task import Warp

IDENTITY = Warp(lambda v: v, lambda v: v, lambda v: np.zeros(len(v)))

# A logarithm for large values of either sign: shortens tails.
ASINH = Warp(np.arcsinh, np.sinh, lambda v: np.log(np.cosh(v)).sum(1))

# sign(v) |v|^(3/2): lengthens tails, and its slope is 0 at 0.
HALF_CUBE = Warp(
    lambda v: np.sign(v) * np.abs(v) ** 1.5,
    lambda v: np.sign(v) * np.abs(v) ** (2 / 3),
    lambda v: (np.log(2 / 3) - np.log(np.abs(v)) / 3).sum(1),
)

# To uniform on (0, 1): no tails, and edges where the density ends.
NORMAL_CDF = Warp(ndtr, ndtri, lambda v: -norm.logpdf(ndtri(v)).sum(1))

TURNS = 1.5 * np.pi


def _roll(v: ndarray) -> ndarray:
    angle = TURNS * (1 + 2 * ndtr(v))
    return np.concatenate([angle * np.cos(angle), angle * np.sin(angle)], axis=1) / 21


def _unroll(v: ndarray) -> ndarray:
    angle = 21 * np.linalg.norm(v, axis=1, keepdims=True)
    return ndtri((angle / TURNS - 1) / 2)


# One dimension rolled up in the plane: one and a half turns, with even spacing along the angle.
SWISS_ROLL = Warp(_roll, _unroll, lambda v: np.full(len(v), np.nan))


def spiral(planes: list[tuple[int, int]], speed: float = 1.0) -> Warp:
    """Turn each of these planes by an angle that grows with the squared distance from 0.

    The distance from 0 stays, and so does volume: the field that turns has no divergence.
    """

    def turn(v: ndarray, sign: int) -> ndarray:
        angle = sign * speed * (v**2).sum(1) / v.shape[1]
        turned = v.copy()
        for i, j in planes:
            turned[:, i] = np.cos(angle) * v[:, i] - np.sin(angle) * v[:, j]
            turned[:, j] = np.sin(angle) * v[:, i] + np.cos(angle) * v[:, j]
        return turned

    return Warp(lambda v: turn(v, 1), lambda v: turn(v, -1), lambda v: np.zeros(len(v)))
