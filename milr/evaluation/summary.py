"""All methods on all measures: intervals, and who is beaten by how much on how many images.

A score is numerators and denominators of shape (networks, explainers, images): its value is sum by
sum, as that of `localisation.Ratio`; a mean has denominators of 1, and an image that does not count
has 0 in both. Methods that know no explainer have one row there, which is repeated. The weights of
all resamples are drawn once, and a difference is taken on the images that count for both methods:
so it is a paired one, and may be another than that of the two scores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from milr.evaluation.localisation import Ratio
from milr.evaluation.statistics import Interval, Paired

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Score:
    """numerators, denominators: (networks, explainers, images) float64."""

    numerators: np.ndarray
    denominators: np.ndarray

    @property
    def value(self) -> float:
        """Sum of the numerators by sum of the denominators; NaN if no image counts."""
        bottom = self.denominators.sum()
        return float(self.numerators.sum() / bottom) if bottom else np.nan

    @property
    def counts(self) -> np.ndarray:
        """Which images of each explainer count."""
        return (self.numerators != 0) | (self.denominators != 0)

    def where(self, known: np.ndarray) -> "Score":
        """Of these images alone; known: Boolean, of a shape that the score is repeated to."""
        return Score(self.numerators * known, self.denominators * known)

    @property
    def each(self) -> np.ndarray:
        """Of each image of each explainer on its own; NaN where it does not count."""
        return self.numerators / np.where(self.denominators > 0, self.denominators, np.nan)


def score(found: Sequence[Sequence[Ratio | Tensor]]) -> Score:
    """Of what each explainer (inner) of each network (outer) got, (images,) or a ratio of them.

    NaN stands for an image that does not count.
    """
    pairs = np.array([[_pair(one) for one in row] for row in found])
    return Score(pairs[:, :, 0], pairs[:, :, 1])


class Resamples:
    """Weights of networks, explainers of each, and images in each resample of the bootstrap.

    own_images: whether each network was measured on images of its own; they are then drawn anew
    within every network that is drawn, and else once for all.

    Such intervals are rough. With m networks the spread between them comes out too small by about
    sqrt((m - 1) / m), and one adds none; and as all of a draw may be one network, the interval
    reaches from the least to the largest of three at most, so that where networks differ by more
    than images do, it covers the truth in about three of four cases. Where only images differ it is
    too wide instead, for own images by about sqrt((2 m - 1) / m), since what they do is also in the
    spread between networks.
    """

    def __init__(
        self, networks: int, explainers: int, images: int, seed: int = 0, own_images: bool = False
    ):
        random = np.random.default_rng(seed)
        self.shape = (networks, explainers, images)
        network = random.multinomial(networks, _even(networks), size=RESAMPLES)
        explainer = random.multinomial(explainers, _even(explainers), size=(RESAMPLES, networks))
        if own_images:
            image = random.multinomial(images * network, _even(images))
        else:
            image = network[..., None] * random.multinomial(
                images, _even(images), size=(RESAMPLES, 1)
            )
        weights = explainer[..., None] * image[:, :, None]
        self.weights = weights.reshape(RESAMPLES, -1).astype(float)

    def values(self, one: Score) -> np.ndarray:
        """The score in each resample, (RESAMPLES,); NaN where the denominators cancel.

        Raises ValueError for a score of other networks, explainers or images.
        """
        top, bottom = (
            self.weights @ self._repeated(part).reshape(-1)
            for part in (one.numerators, one.denominators)
        )
        return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)

    def interval(self, one: Score) -> Interval | None:
        """The score with its interval; None if more than a few resamples say nothing at all.

        So it is for the lift of signed maps whose signs cancel: a mean on a part is compared with
        a mean everywhere that may as well be 0.
        """
        return self._interval(one.value, self.values(one))

    def difference(self, one: Score, other: Score) -> Paired | None:
        """One score minus another: its interval, and on how many images the first is larger.

        Of the images that count for both. Each is counted once for every explainer that either
        score has measured it with. None as for `interval`, and if none is left.
        """
        both = one.counts & other.counts
        one, other = one.where(both), other.where(both)
        values = self.values(one) - self.values(other)
        found = self._interval(one.value - other.value, values)
        if found is None:
            return None
        a, b = np.broadcast_arrays(one.each, other.each)
        known = np.isfinite(a) & np.isfinite(b)
        wins, ties = (a > b)[known].sum(), (a == b)[known].sum()
        return Paired(found, int(wins), int(ties), int(known.sum()))

    def _repeated(self, part: np.ndarray) -> np.ndarray:
        networks, _, images = self.shape
        if part.shape not in (self.shape, (networks, 1, images)):
            raise ValueError(
                f"a score has the shape {part.shape}, and the resamples are of {self.shape} "
                "(networks, explainers, images); give as many of each, or one explainer of each "
                "network"
            )
        return np.broadcast_to(part, self.shape)

    def _interval(self, value: float, drawn: np.ndarray) -> Interval | None:
        if not np.isfinite(value):
            return None
        # A draw that says nothing may be of a value beyond all bounds, at either end.
        with np.errstate(invalid="ignore"):
            low, high = (
                np.quantile(np.where(np.isnan(drawn), end, drawn), share)
                for end, share in ((-np.inf, (1 - LEVEL) / 2), (np.inf, (1 + LEVEL) / 2))
            )
        if not np.isfinite([low, high]).all():
            return None
        # With few images a percentile interval of a ratio can miss its value by a hair.
        return Interval(value, min(float(low), value), max(float(high), value), LEVEL)


@dataclass(frozen=True)
class Standing:
    """A method held against the first on a measure; difference: its score minus the first's."""

    first: str
    difference: Paired
    within: bool  # it is the first, or the interval of the difference has 0 in it


def best(scores: Mapping[str, Score], larger: bool, resamples: Resamples) -> str:
    """The method with the largest (or smallest) score among those that have one."""
    defined = {n: s.value for n, s in scores.items() if resamples.interval(s) is not None}
    return (max if larger else min)(defined, key=defined.get)


def standing(
    method: str, scores: Mapping[str, Score], larger: bool, resamples: Resamples
) -> Standing | None:
    """Is a method the first, or can it not be told from it? None for one without a score."""
    return _against(method, best(scores, larger, resamples), scores, resamples)


def marks(scores: Mapping[str, Score], larger: bool, resamples: Resamples) -> dict[str, str]:
    """ "best" for the first, several if they have the same score; "tied" for who cannot be told
    from it, "" for all others.
    """
    first = best(scores, larger, resamples)
    value = scores[first].value
    found = {}
    for name in scores:
        place = _against(name, first, scores, resamples)
        within = "tied" if place is not None and place.within else ""
        same = within and np.isclose(scores[name].value, value, rtol=0, atol=1e-12)
        found[name] = "best" if same else within
    return found


def _against(method: str, first: str, scores, resamples: Resamples) -> Standing | None:
    found = resamples.difference(scores[method], scores[first])
    if found is None or resamples.interval(scores[method]) is None:
        return None
    return Standing(first, found, method == first or 0 in found.difference)


def _even(count: int) -> np.ndarray:
    return np.full(count, 1 / count)


def _pair(found: Ratio | Tensor) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(found, Ratio):
        return tuple(part.double().numpy() for part in found.pair)
    values = found.double().numpy()
    known = np.isfinite(values)
    return np.where(known, values, 0.0), known.astype(float)
