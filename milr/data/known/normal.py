"""Normal and Student-t pairs: information from determinants."""

import math

import numpy as np
from numpy import ndarray
from numpy.random import Generator
from scipy.special import digamma, gammaln

from milr.data.known.task import Task


def normal(name: str, correlation: ndarray, dx: int, family: str = "normal") -> Task:
    """Normal (x, z) with this correlation matrix, (dx + dz, dx + dz).

    I(x; z) = -log(det R / (det R_x det R_z)) / 2.
    """
    root = np.linalg.cholesky(correlation)

    def draw(random: Generator, n: int):
        both = random.standard_normal((n, len(root))) @ root.T
        return both[:, :dx], both[:, dx:]

    def log_ratio(x: ndarray, z: ndarray) -> ndarray:
        joint = _log_normal(np.concatenate([x, z], axis=1), correlation)
        return joint - _log_normal(x, correlation[:dx, :dx]) - log_marginal(z)

    def log_marginal(z: ndarray) -> ndarray:
        return _log_normal(z, correlation[dx:, dx:])

    return Task(name, family, _information(correlation, dx), draw, log_ratio, log_marginal)


def student(name: str, dispersion: ndarray, dx: int, freedom: int) -> Task:
    """Student-t (x, z): normal ones of this dispersion over one common random scale.

    The scale is information of its own, independent of the dispersion: with m and n dimensions
    and f(d) = log Gamma(d / 2) - d / 2 digamma(d / 2) it adds f(v) + f(v + m + n) - f(v + m) -
    f(v + n) to the normal's (difference of the entropies of multivariate t).
    """
    root, dz = np.linalg.cholesky(dispersion), len(dispersion) - dx

    def draw(random: Generator, n: int):
        scale = np.sqrt(random.chisquare(freedom, size=(n, 1)) / freedom)
        both = random.standard_normal((n, len(root))) @ root.T / scale
        return both[:, :dx], both[:, dx:]

    def log_ratio(x: ndarray, z: ndarray) -> ndarray:
        joint = _log_student(np.concatenate([x, z], axis=1), dispersion, freedom)
        return joint - _log_student(x, dispersion[:dx, :dx], freedom) - log_marginal(z)

    def log_marginal(z: ndarray) -> ndarray:
        return _log_student(z, dispersion[dx:, dx:], freedom)

    def f(d: float) -> float:
        return gammaln(d / 2) - d / 2 * digamma(d / 2)

    scale = f(freedom) + f(freedom + dx + dz) - f(freedom + dx) - f(freedom + dz)
    truth = _information(dispersion, dx) + float(scale)
    return Task(name, "Student-t", truth, draw, log_ratio, log_marginal)


def dense(dx: int, dz: int, correlation: float = 0.5) -> ndarray:
    """Every pair of all dimensions, on either side, has the same correlation.

    A correlation matrix (dx + dz, dx + dz).
    """
    matrix = np.full((dx + dz, dx + dz), correlation)
    np.fill_diagonal(matrix, 1)
    return matrix


def pairs(d: int, correlation: float, count: int | None = None) -> ndarray:
    """x_i belongs to z_i for the first `count` of d dimensions (all by default), and to no other.

    A correlation matrix (2 d, 2 d). The information is -count log(1 - correlation^2) / 2; the rest
    is noise.
    """
    matrix = np.eye(2 * d)
    which = np.arange(d if count is None else count)
    matrix[which, d + which] = matrix[d + which, which] = correlation
    return matrix


def correlation_of(information: float) -> float:
    """The correlation of a bivariate normal with this information in nats."""
    return math.sqrt(-math.expm1(-2 * information))


def _information(matrix: ndarray, dx: int) -> float:
    parts = (matrix, matrix[:dx, :dx], matrix[dx:, dx:])
    both, x, z = (np.linalg.slogdet(part)[1] for part in parts)
    return max(0.0, float(x + z - both) / 2)


def _log_normal(values: ndarray, matrix: ndarray) -> ndarray:
    distance, log_root = _distance(values, matrix)
    return -0.5 * distance - log_root - 0.5 * values.shape[1] * math.log(2 * math.pi)


def _log_student(values: ndarray, matrix: ndarray, freedom: int) -> ndarray:
    distance, log_root = _distance(values, matrix)
    d = values.shape[1]
    constant = gammaln((freedom + d) / 2) - gammaln(freedom / 2)
    constant -= 0.5 * d * math.log(freedom * math.pi) + log_root
    return constant - (freedom + d) / 2 * np.log1p(distance / freedom)


def _distance(values: ndarray, matrix: ndarray) -> tuple[ndarray, float]:
    """Squared Mahalanobis distance, (n,), and half the log-determinant."""
    root = np.linalg.cholesky(matrix)
    white = np.linalg.solve(root, values.T)
    return (white**2).sum(0), float(np.log(np.diag(root)).sum())
