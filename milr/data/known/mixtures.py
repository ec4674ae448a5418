"""Pairs without a closed form for all of it: added uniform noise, and mixtures by quadrature."""

import math

import numpy as np
from numpy import ndarray
from numpy.random import Generator
from scipy.special import logsumexp
from scipy.stats import norm

from milr.data.known.task import Task

# Half-width and points of the grid. The trapezoidal rule on a smooth density that has died out at
# the edges errs by less than rounding once the grid is finer than the narrowest component.
REACH, POINTS = 12.0, 401


def uniform_noise(name: str, reach: float) -> Task:
    """z = x + e with x uniform on (0, 1) and e uniform on (-reach, reach).

    h(e) = log(2 reach), and z has the trapezoid's entropy: I = reach - log(2 reach) for a reach of
    at most 1/2, and 1 / (4 reach) beyond.
    """

    def draw(random: Generator, n: int):
        x = random.uniform(size=(n, 1))
        return x, x + random.uniform(-reach, reach, size=(n, 1))

    def log_marginal(z: ndarray) -> ndarray:
        low, high = np.maximum(z - reach, 0), np.minimum(z + reach, 1)
        with np.errstate(divide="ignore"):
            return np.log(np.maximum(high - low, 0)[:, 0] / (2 * reach))

    def log_ratio(x: ndarray, z: ndarray) -> ndarray:
        inside = np.where(np.abs(z - x)[:, 0] <= reach, 0.0, -np.inf)
        return inside - math.log(2 * reach) - log_marginal(z)

    truth = reach - math.log(2 * reach) if reach <= 0.5 else 1 / (4 * reach)
    return Task(name, "uniform noise", truth, draw, log_ratio, log_marginal)


def mixture(name: str, weights, means, deviations, correlations) -> Task:
    """A mixture of bivariate normals.

    weights, correlations: (c,); means, deviations: (c, 2), of x and z. Truth by quadrature.
    """
    weights, means, deviations, correlations = (
        np.asarray(values, dtype=float) for values in (weights, means, deviations, correlations)
    )

    def draw(random: Generator, n: int):
        which = random.choice(len(weights), size=n, p=weights)
        a, b = random.standard_normal((2, n))
        rho = correlations[which]
        pair = np.stack([a, rho * a + np.sqrt(1 - rho**2) * b], axis=1)
        pair = means[which] + deviations[which] * pair
        return pair[:, :1], pair[:, 1:]

    def log_side(values: ndarray, side: int) -> ndarray:
        parts = norm.logpdf(values, means[:, side], deviations[:, side])
        return logsumexp(parts + np.log(weights), axis=1)

    def log_ratio(x: ndarray, z: ndarray) -> ndarray:
        a, b = ((v - means[:, i]) / deviations[:, i] for i, v in enumerate((x, z)))
        rest = 1 - correlations**2
        parts = -0.5 * (a**2 - 2 * correlations * a * b + b**2) / rest - 0.5 * np.log(rest)
        parts -= np.log(2 * np.pi * deviations.prod(1))
        return logsumexp(parts + np.log(weights), axis=1) - log_side(x, 0) - log_side(z, 1)

    def log_joint(x: ndarray, z: ndarray) -> ndarray:
        return log_ratio(x, z) + log_side(x, 0) + log_side(z, 1)

    grid = np.linspace(-REACH, REACH, POINTS)
    x, z = (side.reshape(-1, 1) for side in np.meshgrid(grid, grid, indexing="ij"))
    cell = (grid[1] - grid[0]) ** 2
    truth = float((np.exp(log_joint(x, z)) * log_ratio(x, z)).sum() * cell)
    return Task(name, "mixture", truth, draw, log_ratio, lambda z: log_side(z, 1))


def symbols(name: str, count: int, noise: float) -> Task:
    """x is one of `count` whole numbers, all as likely, and z = x + noise * N(0, 1).

    I = h(z) - h(noise), the first by quadrature.
    """
    values = np.arange(count) - (count - 1) / 2

    def draw(random: Generator, n: int):
        x = random.choice(values, size=(n, 1))
        return x, x + noise * random.standard_normal((n, 1))

    def log_marginal(z: ndarray) -> ndarray:
        return logsumexp(norm.logpdf(z, values, noise), axis=1) - math.log(count)

    def log_ratio(x: ndarray, z: ndarray) -> ndarray:
        return norm.logpdf(z, x, noise)[:, 0] - log_marginal(z)

    grid = np.linspace(-REACH, REACH, 20 * POINTS)[:, None]
    log_z = log_marginal(grid)
    entropy = -float((np.exp(log_z) * log_z).sum()) * float(grid[1, 0] - grid[0, 0])
    truth = entropy - 0.5 * math.log(2 * math.pi * math.e * noise**2)
    return Task(name, "mixture", truth, draw, log_ratio, log_marginal)
