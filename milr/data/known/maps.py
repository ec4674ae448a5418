"""Feature maps: N locations with two channels each beside one z, as the method meets them.

A location is *informative* (its first channel has a given correlation with one dimension of z),
*redundant* (an exact copy of an informative one) or *junk* (noise). The truth is the mean over the
locations of I(x_n; z), for that is what InfoNCE over locations bounds.
"""

import math

import numpy as np
from numpy import ndarray
from numpy.random import Generator
from scipy.stats import norm

from milr.data.known.task import Task


def feature_map(name: str, correlations, dimensions, copies=(), dz: int = 2) -> Task:
    """A feature map of N locations.

    correlations: of each location's first channel with its dimension of z; 0 for junk.
    dimensions: which dimension of z that is, for each location.
    copies: (location, original) pairs; the location shows what the original shows.
    """
    correlations, dimensions = np.array(correlations, dtype=float), np.array(dimensions)
    for place, original in copies:
        correlations[place], dimensions[place] = correlations[original], dimensions[original]
    rest = 1 - correlations**2

    def draw(random: Generator, n: int):
        z = random.standard_normal((n, dz))
        x = random.standard_normal((n, len(correlations), 2))
        x[..., 0] = correlations * z[:, dimensions] + np.sqrt(rest) * x[..., 0]
        for place, original in copies:
            x[:, place] = x[:, original]
        return x, z

    def log_ratio(x: ndarray, z: ndarray) -> ndarray:
        mean = correlations * z[:, dimensions]
        return norm.logpdf(x[..., 0], mean, np.sqrt(rest)) - norm.logpdf(x[..., 0])

    each = -0.5 * np.log(rest)
    return Task(
        name,
        "feature map",
        float(each.mean()),
        draw,
        log_ratio,
        lambda z: norm.logpdf(z).sum(1),
        tuple(float(one) for one in each),
    )


def parity_map(name: str, locations: int = 4) -> Task:
    """The sign of z is the product of the first two locations' signs.

    No location alone knows anything of z: the truth is 0, though together they hold log 2.
    """

    def draw(random: Generator, n: int):
        x = random.standard_normal((n, locations, 2))
        sign = np.sign(x[:, 0, 0] * x[:, 1, 0])
        return x, (sign * np.abs(random.standard_normal(n)))[:, None]

    def log_ratio(x: ndarray, z: ndarray) -> ndarray:
        return np.zeros(x.shape[:2])

    zeros = (0.0,) * locations
    return Task(name, "feature map", 0.0, draw, log_ratio, lambda z: norm.logpdf(z[:, 0]), zeros)


def graded(locations: int, most: float) -> list[float]:
    """Correlations whose information falls evenly from `most` nats to 0."""
    steps = np.linspace(most, 0, locations)
    return [math.sqrt(-math.expm1(-2 * step)) for step in steps]
