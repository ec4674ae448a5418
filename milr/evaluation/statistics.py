"""How sure a number is: intervals over images, episodes and seeds, paired differences, ranks."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from milr import doors

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval, printed as "0.945 [0.940, 0.950]".

    A format is that of its three numbers: f"{interval:.1%}" is "94.5% [94.0%, 95.0%]".
    """

    value: float
    low: float
    high: float
    level: float = 0.95

    def __str__(self) -> str:
        return f"{self:.3f}"

    def __format__(self, form: str) -> str:
        form = form or ".3f"
        return f"{self.value:{form}} [{self.low:{form}}, {self.high:{form}}]"

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Paired:
    """Two methods on the same images: mean of a - b, and on how many of them a is larger."""

    difference: Interval
    wins: int
    ties: int
    count: int

    def __str__(self) -> str:
        return f"{self.difference}, larger on {self.wins} of {self.count} ({self.ties} ties)"


def mean_interval(values, level: float = 0.95) -> Interval:
    """Mean of independent values (n,) with its normal interval, as usual for episodes.

    1.96 standard errors to either side for 95 %. Raises ValueError for fewer than two values, or
    for some that are not finite, and for a level that is not between 0 and 1.
    """
    _check_level(level)
    values = _column(values)
    half = stats.norm.ppf((1 + level) / 2) * values.std(ddof=1) / np.sqrt(len(values))
    return _interval(values.mean(), values.mean() - half, values.mean() + half, level)


def of_error(value: float, error: float, count: int, level: float = 0.95) -> Interval:
    """A mean of `count` independent groups with its standard error as an interval.

    By Student's t: of four groups 3.18 errors to either side for 95 %, and not 1.96. Raises
    ValueError for fewer than two groups, or a level that is not between 0 and 1.
    """
    _check_level(level)
    doors.whole(2, count=count)
    half = stats.t.ppf((1 + level) / 2, count - 1) * error
    return _interval(value, value - half, value + half, level)


def bootstrap(
    values,
    statistic: Callable[..., np.ndarray] = np.mean,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Percentile bootstrap of a statistic over images.

    values:    (n,), or a tuple of several (n,) that belong together and are drawn together
    statistic: takes as many arrays and `axis`, as numpy's do

    Values that are not finite (an image without the part) must be left out by the caller: raises
    ValueError if there are any, or fewer than two values, or a level that is not between 0 and 1.
    Draws of which the statistic is NaN (of a ratio: no image with the part was drawn) are left out.
    """
    _check_level(level)
    columns = [_column(v) for v in (values if isinstance(values, tuple) else (values,))]
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        drawn = stats.bootstrap(
            columns,
            statistic,
            n_resamples=resamples,
            batch=200,
            vectorized=True,
            paired=True,
            confidence_level=level,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return _interval(statistic(*columns, axis=-1), low, high, level)


def ratio(numerators: np.ndarray, denominators: np.ndarray, axis=None) -> np.ndarray:
    """Sum by sum: the statistic of `localisation.Ratio`.

    numerators, denominators: of one shape, (n,) say; summed over `axis`, or over all if it is None.
    NaN where the denominators do not add up to more than 0, as those of signed maps may.
    """
    top, bottom = np.sum(numerators, axis=axis), np.sum(denominators, axis=axis)
    return np.divide(top, bottom, out=np.full_like(top, np.nan, dtype=float), where=bottom > 0)


def ratio_interval(numerators, denominators, **settings) -> Interval:
    """Bootstrap of a ratio of totals over images: `ratio_interval(*lift(maps, masks).pair)`.

    numerators, denominators: (n,); settings, and what is raised: as for `bootstrap`. Raises
    ValueError if the denominators do not add up to more than 0, as `localisation.Ratio.value` does.
    """
    total = float(np.sum(np.asarray(denominators)))
    if total <= 0:
        raise ValueError(
            f"the denominators add up to {total:.3g}, so the ratio says nothing; leave out parts "
            "that no image has, and clamp signed maps (maps.clamp(min=0))"
        )
    return bootstrap((numerators, denominators), ratio, **settings)


def hierarchical(
    values,
    statistic: Callable[..., np.ndarray] = np.mean,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Bootstrap over model seeds, explainer seeds within each, and images.

    values:    (model seeds, explainer seeds, images), or a tuple of several such arrays that
               belong together; all seeds were measured on the same images
    statistic: takes as many arrays (without `axis`), gives one number; NaN for a draw that says
               nothing, which is left out

    Images are drawn once for all seeds of a resample, because they are the same ones. With m
    seeds the spread between seeds comes out too small by about sqrt((m - 1) / m), and one seed
    adds none; where three model seeds differ by more than images do, the interval covers the truth
    in about three of four cases. What one image does to one model alone is counted more than once.
    Raises ValueError for other shapes, values that are not finite, or a level that is
    not between 0 and 1.
    """
    _check_level(level)
    arrays = values if isinstance(values, tuple) else (values,)
    arrays = [np.asarray(a, dtype=float) for a in arrays]
    if arrays[0].ndim != 3 or any(a.shape != arrays[0].shape for a in arrays):
        raise ValueError(
            f"given were arrays of shape {', '.join(str(a.shape) for a in arrays)}; give arrays "
            "of one shape (model seeds, explainer seeds, images)"
        )
    if not all(np.isfinite(a).all() for a in arrays):
        raise ValueError("there are values that are not finite; leave those images out")
    models, explainers, images = arrays[0].shape
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        model = random.integers(models, size=models)
        explainer = random.integers(explainers, size=(models, explainers))
        image = random.integers(images, size=images)
        place = (model[:, None, None], explainer[:, :, None], image)
        drawn.append(statistic(*(a[place] for a in arrays)))
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return _interval(statistic(*arrays), low, high, level)


def paired(a, b, seed: int = 0, level: float = 0.95) -> Paired:
    """Compare two methods on the same images, a and b (n,): bootstrap of the mean difference.

    Raises ValueError if they differ in length, for fewer than two values, or for some that are not
    finite, and for a level that is not between 0 and 1.
    """
    a, b = _column(a), _column(b)
    if len(a) != len(b):
        raise ValueError(f"{len(a)} values and {len(b)}; give one of each method for each image")
    return Paired(
        difference=bootstrap(a - b, seed=seed, level=level),
        wins=int((a > b).sum()),
        ties=int((a == b).sum()),
        count=len(a),
    )


def rank_correlation(a, b) -> np.ndarray:
    """Spearman's rank correlation of rows: (n,) and (n,) give a number, (B, n) give (B,).

    Places that are NaN in either are left out (parts that an image lacks). NaN for a row with
    fewer than three places left, or constant ones. Quote the value for random maps beside it: over
    few parts of unequal size it need not be 0. Raises ValueError for two shapes.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape:
        raise ValueError(f"shapes {a.shape} and {b.shape} differ; give two tables of one shape")
    rows = map(_rank_correlation, np.atleast_2d(a), np.atleast_2d(b))
    return np.array(list(rows)).reshape(a.shape[:-1])


def rank_interval(a, b, seed: int = 0, level: float = 0.95) -> Interval:
    """Spearman's rank correlation of a with b, both (n,), and its interval over these n.

    Draws in which all are equal are left out. Raises ValueError as `bootstrap` does.
    """

    def correlations(one: np.ndarray, other: np.ndarray, axis: int) -> np.ndarray:
        ranks = (stats.rankdata(values, axis=axis) for values in (one, other))
        one, other = (rank - rank.mean(axis, keepdims=True) for rank in ranks)
        return (one * other).sum(axis) / np.sqrt((one**2).sum(axis) * (other**2).sum(axis))

    return bootstrap((a, b), correlations, seed, level)


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    known = ~(np.isnan(a) | np.isnan(b))
    a, b = a[known], b[known]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return stats.spearmanr(a, b).statistic


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; give a share between 0 and 1, such as 0.95 for 95 %")


def _column(values: Sequence[float]) -> np.ndarray:
    column = np.asarray(values, dtype=float)
    if column.ndim != 1 or len(column) < 2:
        raise ValueError(f"given was an array of shape {column.shape}; give (n,), n at least 2")
    if bad := int((~np.isfinite(column)).sum()):
        raise ValueError(f"{bad} of {len(column)} values are not finite; leave those images out")
    return column


def _interval(value, low, high, level: float) -> Interval:
    return Interval(float(value), float(low), float(high), level)
