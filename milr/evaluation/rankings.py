"""Do two attributions of a few features agree? Kolmogorov-Smirnov, as the poster, and ranks."""

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Test:
    """Kolmogorov-Smirnov for two samples: statistic, and p by counting and for many samples."""

    statistic: float
    exact: float
    many: float


def kolmogorov_smirnov(a: np.ndarray, b: np.ndarray) -> Test:
    """Are a and b (n,) drawn from one distribution? A small p speaks against it.

    It looks at the values of the features as at two bags of numbers: which feature has which value
    plays no part, and the unit in which they are measured does. `many` uses the correction for
    small samples with which the poster's p-values agree.
    """
    found = stats.ks_2samp(a, b, method="exact")
    root = np.sqrt(len(a) * len(b) / (len(a) + len(b)))
    scaled = (root + 0.12 + 0.11 / root) * found.statistic
    return Test(float(found.statistic), float(found.pvalue), float(stats.kstwobign.sf(scaled)))


def shares(values: np.ndarray) -> np.ndarray:
    """Attributions (..., d) as shares of their sum; rows that do not add up to more than 0 stay
    as they are."""
    total = values.sum(-1, keepdims=True)
    return values / np.where(total > 0, total, 1)


def ranked(values: np.ndarray, names: tuple[str, ...]) -> str:
    """Names from the largest value to the smallest, as "a > b > c", with = between equal ones.

    values: (n,), one for each of the names.
    """
    order = np.argsort(-values, kind="stable")
    signs = [
        " = " if np.isclose(*values[[i, j]], atol=0) else " > "
        for i, j in zip(order, order[1:], strict=False)
    ]
    return "".join(
        part for i, sign in zip(order, [*signs, ""], strict=True) for part in (names[i], sign)
    )
