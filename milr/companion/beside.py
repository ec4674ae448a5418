"""Two references side by side, those of the drawn birds and of the photographs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from milr.companion.claims import Claim, Evidence, Measured, Verdict, judge
from milr.companion.ideas import ABSENT
from milr.companion.scorecard import said

_WORDS = {
    "mi lr": "MI-LR", "grad cam": "Grad-CAM", "lrp": "LRP", "smoothgrad": "SmoothGrad",
    "deeplift": "DeepLift", "per sample": "Per-Sample", "readout": "Readout",
    "gaussian": "Gaussian",
}  # fmt: skip


@dataclass(frozen=True)
class Carried:
    """One measure of all methods on both sides.

    names: as keys have them; values: (2, len(names), 3), value and interval, NaN where there is
    none; larger: whether more is better.
    """

    names: Sequence[str]
    values: np.ndarray
    larger: bool

    def of(self, names: Sequence[str]) -> "Carried":
        """Of these methods alone."""
        chosen = [self.names.index(name) for name in names]
        return Carried(list(names), self.values[:, chosen], self.larger)

    def first(self, side: int) -> str:
        """The best on a side; of several that are equal the one that is better on the other."""
        mine, other = (self._better(k) for k in (side, 1 - side))
        return self.names[max(range(len(self.names)), key=lambda n: (mine[n], other[n]))]

    def place(self, name: str, side: int) -> int:
        """1 for the best of a side; methods that are equal share their place."""
        values = self._better(side)
        return 1 + int((values > values[self.names.index(name)]).sum())

    def told_from(self, name: str, side: int) -> int:
        """How many methods have an interval that the value of this one is not in."""
        value = self.values[side, self.names.index(name), 0]
        _, low, high = self.values[side].T
        return int(((low > value) | (high < value)).sum())

    def _better(self, side: int) -> np.ndarray:
        return self.values[side, :, 0] * (1 if self.larger else -1)


def carried(measure: str, larger: bool, sides: Sequence[Evidence]) -> Carried:
    """What both sides recorded as `09.MEASURE.METHOD`, methods in the order of the first side."""
    key = re.compile(rf"09\.{measure}\.(\w+)")
    names = [
        found.group(1)
        for one in sides[0].values
        if (found := key.fullmatch(one)) and one in sides[1].values
    ]
    values = [rows([f"09.{measure}.{name}" for name in names], side) for side in sides]
    return Carried(names, np.array(values), larger)


def rows(keys: Sequence[str], found: Evidence) -> np.ndarray:
    """(len(keys), 3) value and ends of the interval; NaN for what was not recorded."""
    none = Measured(np.nan, np.nan, np.nan)
    every = [found.values.get(key, none) for key in keys]
    return np.array([[one.value, one.low, one.high] for one in every])


def inside(ratio: Measured, share: float) -> Measured:
    """How far a map is drawn into a place: 0 for an even spread, 1 if all of it lies there.

    ratio: what lies in the place over what of an even spread would, at most 1 / share; share: of
    the place in the picture, between 0 and 1, taken as known. So the area of a place counts no
    more; its outline does, which a map of few locations cannot fill.
    """

    def scaled(value: float) -> float:
        return (value - 1) * share / (1 - share)

    return Measured(scaled(ratio.value), scaled(ratio.low), scaled(ratio.high))


def told(asked: Mapping[str, str], sides: Sequence[Evidence]) -> list[list[str]]:
    """A row for each of {question: key}: the question, and what each side recorded."""
    return [
        [question, *(said(side.values[key]) if key in side.values else ABSENT for side in sides)]
        for question, key in asked.items()
    ]


def judged(
    claims: Sequence[Claim], sides: Sequence[Evidence], without: Sequence[str] = ()
) -> dict[Claim, tuple[Verdict, ...]]:
    """The verdict on each side, for the claims that can be judged on both.

    without: claims that ask for a key with one of these in it are left out.
    """
    asked = {
        claim: tuple(judge(claim, side) for side in sides)
        for claim in claims
        if not any(part in key for one in claim.rules for key in one.keys for part in without)
    }
    unknown = {"open", "cannot be tested here"}
    return {
        claim: verdicts
        for claim, verdicts in asked.items()
        if not unknown & {verdict.status for verdict in verdicts}
    }


def in_words(verdict: Verdict) -> str:
    """The status of a claim, and what became of its rules where there are several."""
    several = len(verdict.outcomes) > 1
    return verdict.status + (f" ({', '.join(verdict.outcomes)})" if several else "")


def method(name: str) -> str:
    """A method's name for readers, from that in keys: "mi_lr_total" is "MI-LR total"."""
    words = name.replace("_", " ")
    for plain, known in _WORDS.items():
        words = re.sub(rf"\b{plain}\b", known, words)
    return words
