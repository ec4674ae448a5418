"""What any estimator of mutual information should obey, whatever the truth: four samples to try.

Independent pairs hold nothing; noise added to x takes away and never adds; two independent copies
hold twice as much (Song and Ermon 2020).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from milr import doors
from milr.cache import cached
from milr.data.known.normal import correlation_of, normal, pairs
from milr.estimators import estimate_many
from milr.evaluation.estimation import METHODS, SOURCES, Plan

NATS = 1.0  # of the pair that is processed and doubled
NOISE = 1.0  # deviation of what is added to x, whose own is 1
RULES = ("independent", "processed", "two copies")
SIGMAS = 3.0


def consistency(plan: Plan) -> dict[str, dict[str, dict]]:
    """For each method and each of `RULES`: "value", "error" and whether it holds, "holds".

    Values are, in nats, the estimate for independent pairs, what processing added, and what two
    copies have beyond twice one. A rule holds if the value is at most 3 standard errors from 0;
    for processing, above 0. Values are means over the plan's seeds; what processing added is a mean
    of differences, since x is processed beside the very z of its seed, and its error is theirs.
    Raises ValueError for fewer than two seeds, of which such differences would have no error.
    """
    doors.whole(2, seeds=plan.seeds)
    methods = [m for m in METHODS if m in plan.methods and not m.startswith("infonce-")]
    config = {**asdict(plan), "names": [], "methods": methods}
    estimates = cached(
        "consistency",
        config,
        lambda: _estimates(plan, methods),
        sources=(*SOURCES, "milr/evaluation/consistency.py"),
    )
    return {method: _rules(estimates[method]) for method in methods}


def _rules(found: dict[str, Sequence[tuple[float, float]]]) -> dict[str, dict]:
    """found: of each kind of sample, value and standard error for each seed."""
    one, one_error = _mean(found["one"])
    two, two_error = _mean(found["two copies"])
    rules = {
        "independent": _mean(found["independent"]),
        "processed": _difference(found["processed"], found["one"]),
        "two copies": (two - 2 * one, math.hypot(two_error, 2 * one_error)),
    }
    return {
        name: {
            "value": value,
            "error": error,
            "holds": bool((value if name == "processed" else abs(value)) <= SIGMAS * error),
        }
        for name, (value, error) in rules.items()
    }


def _estimates(plan: Plan, methods: Sequence[str]) -> dict[str, dict[str, list]]:
    kinds = _samples(plan)
    found = {method: {} for method in methods}
    for names in (("one", "processed"), ("independent", "two copies")):
        given = [kinds[name][1][s] for name in names for s in range(plan.seeds)]
        channels = [kinds[name][0].channel for name in names for _ in range(plan.seeds)]
        others = [method for method in methods if method != "vib"]
        settings = plan.settings(plan.first)
        shared = {"critic": plan.critic, "folds": plan.folds}
        estimates = estimate_many(given, others, settings, **shared)
        if "vib" in methods:
            estimates |= estimate_many(given, ["vib"], settings, channels=channels, **shared)
        for method, row in estimates.items():
            pairs = [[one.value, one.standard_error] for one in row]
            for i, name in enumerate(names):
                found[method][name] = pairs[i * plan.seeds : (i + 1) * plan.seeds]
    return found


def _samples(plan: Plan) -> dict[str, tuple]:
    """Of each kind a task that gives its channel, and a sample for each seed."""
    correlation = correlation_of(NATS)
    scale = math.sqrt(1 + NOISE**2)
    tasks = {
        "one": normal("one", pairs(1, correlation), 1),
        "processed": normal("processed", pairs(1, correlation / scale), 1),
        "two copies": normal("two copies", pairs(2, correlation), 2),
        "independent": normal("independent", pairs(2, 0.0), 2),
    }
    seeds = range(plan.first, plan.first + plan.seeds)
    drawn = {name: [task.sample(plan.size, s) for s in seeds] for name, task in tasks.items()}
    noise = np.random.default_rng([plan.first, 2]).standard_normal((plan.seeds, plan.size, 1))
    drawn["processed"] = [
        ((x + NOISE * e) / scale, z) for (x, z), e in zip(drawn["one"], noise, strict=True)
    ]
    return {name: (tasks[name], drawn[name]) for name in tasks}


def _mean(found: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Mean over seeds; the error is that of the samples, or the spread of the seeds if larger."""
    values, errors = np.array(found).T
    error = max(math.sqrt((errors**2).mean()), values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()), float(error)


def _difference(found: Sequence[tuple], others: Sequence[tuple]) -> tuple[float, float]:
    """Mean over seeds of value less value, and the error of that mean by their spread."""
    gaps = np.array(found)[:, 0] - np.array(others)[:, 0]
    return float(gaps.mean()), float(gaps.std(ddof=1)) / math.sqrt(len(gaps))
