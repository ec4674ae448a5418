"""The ledger of claims: `data/claims.yml`, and what the evidence says of each.

Nobody types a status. A claim names rules on recorded results, such as `05.decision.beak > 1`; the
results of a run, or the reference, decide. The result `NN.name` was recorded by the chapter whose
notebook begins with `NN_`. A rule is

    KEY SIGN NUMBER    KEY SIGN KEY    KEY SIGN NUMBER * KEY

with one of the signs < <= > >= == !=. It is *met* if it holds for the values and also for the least
favourable ends of their intervals, *not settled* if it holds for the values alone, else *missed*.
(`!=` is met where the intervals are apart, else missed: a difference that was not shown is none.)
A claim is reproduced if all its rules are met, not reproduced if none is met and any is missed, and
partly otherwise: some are met and others not, or all are not settled. It is open while evidence is
absent, and results of a smoke run are none.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from milr.companion import manifest
from milr.files import read_yaml
from milr.paths import ROOT

LEDGER = ROOT / "data" / "claims.yml"
SOURCES = {
    "paper": "the paper",
    "patent": "the patent text",
    "mip-in": "a review of MIP-IN",
    "nif": "the NIF poster",
}
KINDS = ("formula", "method", "measurement", "picture", "opinion")
STATUSES = ("reproduced", "partly", "not reproduced", "open", "cannot be tested here")
KEY = r"\d\d\.(?=[\w.-]*[A-Za-z])\w[\w.-]*"  # of a result; a letter tells it from a number
SIGNS = ("<", "<=", ">", ">=", "==", "!=")

_REQUIRED = ("id", "source", "at", "kind", "says", "asks")
_OPTIONAL = ("rules", "untestable", "remark")
_RULE = re.compile(
    rf"(?P<key>{KEY}) (?P<sign>[<>]=?|[=!]=) "
    rf"(?:(?:(?P<factor>-?\d+(?:\.\d+)?) \* )?(?P<other>{KEY})|(?P<number>-?\d+(?:\.\d+)?))"
)


@dataclass(frozen=True)
class Measured:
    """A recorded number; `low` and `high` are its interval, or the value where it has none."""

    value: float
    low: float
    high: float
    unit: str = ""


@dataclass(frozen=True)
class Rule:
    """`key sign factor * other`; without `other`, `factor` is the bound."""

    key: str
    sign: str
    factor: float
    other: str = ""
    text: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """The results that it asks for, one or two."""
        return (self.key, self.other) if self.other else (self.key,)


@dataclass(frozen=True)
class Claim:
    """One entry of the ledger; it has either `rules` or a reason why it is `untestable`."""

    id: str
    source: str
    at: tuple[str, ...]
    kind: str
    says: str
    asks: str
    rules: tuple[Rule, ...] = ()
    untestable: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Evidence:
    """Results by key, of the chapters (their numbers) that count; `smoke` are those that don't."""

    values: Mapping[str, Measured]
    chapters: frozenset[str] = frozenset()
    smoke: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Verdict:
    """The status of a claim, what became of each of its rules, and why it is open if it is."""

    status: str
    outcomes: tuple[str, ...] = ()
    reason: str = ""


def load(path: Path = LEDGER) -> list[Claim]:
    """Return the claims of a ledger, checked.

    Raises ValueError, naming the entry, for unknown, absent or doubled parts, for a rule that can't
    be read, and for a claim with both rules and a reason why there can be none, or with neither.
    """
    entries = read_yaml(path, _Strict)
    claims = [_claim(entry, number) for number, entry in enumerate(entries, start=1)]
    known = set()
    for claim in claims:
        if claim.id in known:
            raise ValueError(f"claims.yml: two claims are called {claim.id!r}; rename one")
        known.add(claim.id)
    return claims


def rule(text: str) -> Rule:
    """Read a rule. Raises ValueError for one of another form."""
    found = _RULE.fullmatch(text)
    if not found:
        raise ValueError(
            f"rule {text!r} can't be read; write KEY SIGN NUMBER, KEY SIGN KEY or "
            f"KEY SIGN NUMBER * KEY with one of {' '.join(SIGNS)}, e.g. 05.decision.beak > 1"
        )
    key, sign, factor, other, number = found.groups()
    bound = float(number) if number else float(factor or 1)
    return Rule(key, sign, bound, other or "", text)


def evidence(folder: Path) -> Evidence:
    """Return the numbers that the chapters of a run left in `folder`/results.

    Results of a smoke run are refused: their chapters are named in `smoke`. Those of chapters that
    are no longer there are passed over.
    """
    chapters = {notebook.stem for notebook in manifest.notebooks(ROOT)}
    values, counted, smoke = {}, set(), set()
    for path in sorted((folder / "results").glob("[0-9][0-9]_*.json")):
        if path.stem not in chapters:
            continue
        kept = json.loads(path.read_text())
        if kept["profile"] == "smoke":
            smoke.add(path.name[:2])
            continue
        counted.add(path.name[:2])
        values |= numbers(kept["values"])
    return Evidence(values, frozenset(counted), frozenset(smoke))


def numbers(recorded: Mapping[str, dict]) -> dict[str, Measured]:
    """Return the numbers among recorded results, by key; words and yes-or-no are passed over."""
    return {
        key: Measured(one["value"], *(one["interval"] or [one["value"]] * 2), one["unit"])
        for key, one in recorded.items()
        if isinstance(one["value"], int | float) and not isinstance(one["value"], bool)
    }


def judge(claim: Claim, found: Evidence) -> Verdict:
    """Return what the evidence says of a claim."""
    if claim.untestable:
        return Verdict("cannot be tested here", reason=claim.untestable)
    for key in dict.fromkeys(key for one in claim.rules for key in one.keys):
        if key not in found.values:
            return Verdict("open", reason=_absent(key, found))
    outcomes = tuple(outcome(one, found.values) for one in claim.rules)
    if set(outcomes) == {"met"}:
        return Verdict("reproduced", outcomes)
    none = "missed" in outcomes and "met" not in outcomes
    return Verdict("not reproduced" if none else "partly", outcomes)


def outcome(asked: Rule, values: Mapping[str, Measured]) -> str:
    """Return what becomes of a rule: "met", "not settled" or "missed"."""
    left, right = values[asked.key], bound(asked, values)
    if not _holds(left.value, asked.sign, right.value):
        return "missed"
    if asked.sign == "==":
        return "met"  # equal numbers are exact, or computed twice from the same
    if asked.sign == "!=":
        return "met" if left.high < right.low or right.high < left.low else "missed"
    ends = (left.high, right.low) if asked.sign.startswith("<") else (left.low, right.high)
    return "met" if _holds(ends[0], asked.sign, ends[1]) else "not settled"


def bound(asked: Rule, values: Mapping[str, Measured]) -> Measured:
    """Return the right side of a rule."""
    if not asked.other:
        return Measured(asked.factor, asked.factor, asked.factor)
    other = values[asked.other]
    low, high = sorted((asked.factor * other.low, asked.factor * other.high))
    unit = other.unit if asked.factor == 1 else ""  # a factor may turn bits into nats
    return Measured(asked.factor * other.value, low, high, unit)


def _holds(left: float, sign: str, right: float) -> bool:
    close = math.isclose(left, right, rel_tol=1e-6, abs_tol=1e-9)
    if sign in ("==", "!="):
        return close == (sign == "==")
    if close:
        return sign in ("<=", ">=")
    return left < right if sign.startswith("<") else left > right


def _absent(key: str, found: Evidence) -> str:
    chapter = key[:2]
    if chapter in found.smoke:
        return "a smoke run is no evidence"
    if chapter in found.chapters:
        return f"the run of chapter {chapter} recorded no {key}"
    return f"no results of chapter {chapter}"


def _claim(entry: object, number: int) -> Claim:
    if not isinstance(entry, dict):
        raise ValueError(f"claims.yml, entry {number}: {entry!r} is not a claim with named parts")
    where = f"claims.yml, {entry.get('id', f'entry {number}')}"
    absent = [name for name in _REQUIRED if not entry.get(name)]
    strange = [name for name in entry if name not in _REQUIRED + _OPTIONAL]
    if absent or strange:
        what = f"{absent[0]!r} is missing" if absent else f"{strange[0]!r} is not known"
        raise ValueError(f"{where}: {what}; a claim has {', '.join(_REQUIRED + _OPTIONAL)}")
    for name, allowed in (("source", SOURCES), ("kind", KINDS)):
        if entry[name] not in allowed:
            raise ValueError(f"{where}: {name} {entry[name]!r}; allowed are {', '.join(allowed)}")
    for name, value in entry.items():
        kind, word = (list, "a list") if name in ("at", "rules") else (str, "words")
        if not isinstance(value, kind):
            raise ValueError(f"{where}: {name} must be {word}, and is {value!r}")
    if bool(entry.get("rules")) == bool(entry.get("untestable")):
        raise ValueError(f"{where}: give either rules, or a reason why it is untestable")
    try:
        rules = tuple(rule(str(text)) for text in entry.get("rules", ()))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return Claim(**{**entry, "at": tuple(map(str, entry["at"])), "rules": rules})


class _Strict(yaml.SafeLoader):
    """Takes no name twice in one entry, where YAML would silently keep the last."""

    def construct_mapping(self, node, deep=False):
        names = [self.construct_object(key) for key, _ in node.value]
        if doubled := [name for name in names if names.count(name) > 1]:
            line = node.start_mark.line + 1
            raise ValueError(f"claims.yml, entry at line {line}: {doubled[0]!r} stands there twice")
        return super().construct_mapping(node, deep)
