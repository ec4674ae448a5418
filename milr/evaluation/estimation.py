"""Estimators of mutual information on tasks whose truth is known: trials, errors, advice.

A trial is one estimate: a dict with "task", "family", "method", "size", "seed",
"columns" (of x and z together, 0 for a feature map), "truth", "value", "error" (its standard error)
and "seconds". Nats and seconds throughout. Trials are kept in the
cache, one entry for the tasks of one shape and size, so that a second run only reads them.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import torch

from milr import estimators
from milr.cache import cached
from milr.data import known
from milr.data.known import Task
from milr.estimators import Settings, estimate_many
from milr.estimators.door import normal_scores
from milr.evaluation.statistics import Interval, bootstrap

MAP_METHODS = ("infonce", "infonce-paper", "infonce-pooled")
# In the order of the tables; for the vectors of most tasks the three forms of InfoNCE are one.
METHODS = (
    *MAP_METHODS, "nwj", "mine", "smile", "jsd", "club", "club-full", "leave-one-out", "vib",
    "ksg", "gaussian",
)  # fmt: skip
SOURCES = (estimators, known, "milr/infonce.py", "milr/evaluation/estimation.py")


@dataclass(frozen=True)
class Plan:
    """How much is tried: `size` samples of each task, from as many seeds.

    first: the first seed. methods: all by default; names: of tasks, all by default.
    """

    size: int
    seeds: int
    steps: int
    batch: int = 128
    learning_rate: float = 5e-3
    folds: int = 1
    negatives: int | None = None
    critic: str = "residual"
    first: int = 0
    device: str = "cpu"
    methods: Sequence[str] = METHODS
    names: Sequence[str] = field(default_factory=lambda: tuple(known.tasks()))

    def settings(self, seed: int) -> Settings:
        """How estimators train by this plan, with this seed."""
        return Settings(
            steps=self.steps, batch=self.batch, learning_rate=self.learning_rate,
            seed=seed, device=_device(self.device), progress=False,
        )  # fmt: skip


def trials(plan: Plan, tasks: Iterable[Task] | None = None) -> list[dict]:
    """All estimates of a plan, on its tasks (or the given ones), as trials.

    All methods but "vib", whose channel is of the samples as they were drawn, see columns that are
    bent to normal scores: those with a critic or a learned density by the ranks of what they learn
    from, and "ksg" and "gaussian", which read all samples, by the ranks of all.
    """
    tasks = [known.tasks()[name] for name in plan.names] if tasks is None else list(tasks)
    groups = defaultdict(list)
    for task in tasks:
        x, z = task.sample(2, 0)
        groups[x.shape[1:], z.shape[1:]].append(task)
    found = []
    for group in groups.values():
        names = [task.name for task in group]
        config = {**asdict(plan), "device": _device(plan.device), "names": names}
        config["truths"] = [task.truth for task in group]
        found += cached("estimates", config, lambda g=group: _trials(plan, g), sources=SOURCES)
    return found


def table(rows: Sequence[dict], by: Sequence[str]) -> list[dict]:
    """Errors of each group of trials that agree in `by` (e.g. family and method).

    Bias: mean error over tasks and seeds. Spread: standard deviation over seeds on one task, root
    mean square over tasks; NaN for a single seed. RMSE: root mean square error. Seconds: mean.
    """
    groups = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in by)].append(row)
    found = []
    for key, group in groups.items():
        off = np.array([row["value"] - row["truth"] for row in group])
        found.append(
            dict(zip(by, key, strict=True))
            | {
                "tasks": len({row["task"] for row in group}),
                "bias": float(off.mean()),
                "spread": spread(group),
                "rmse": float(np.sqrt((off**2).mean())),
                "seconds": float(np.mean([row["seconds"] for row in group])),
            }
        )
    return found


def spread(rows: Sequence[dict]) -> float:
    """Root mean square, over tasks, of the standard deviation over seeds; NaN for one seed."""
    variances = _variances(rows)
    return math.sqrt(np.mean(list(variances.values()))) if variances else math.nan


def errors(rows: Sequence[dict], methods: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Mean error (methods, tasks) in nats; NaN where a method was not tried on a task."""
    values = defaultdict(list)
    for row in rows:
        values[row["method"], row["task"]].append(row["value"] - row["truth"])
    return np.array(
        [[np.mean(values.get((m, name), [math.nan])) for name in names] for m in methods]
    )


def within(rows: Sequence[dict], reach: float, most: float) -> tuple[Interval, int]:
    """Of the estimates on tasks up to `most` nats, the share within `reach` nats of the truth.

    rows: trials of one method. Every task counts alike, however many seeds it has. The share is
    bootstrapped over tasks, whose number is given with it.
    """
    tasks = defaultdict(list)
    for row in rows:
        if row["truth"] <= most + 1e-9:
            tasks[row["task"]].append(abs(row["value"] - row["truth"]) <= reach)
    return bootstrap([np.mean(near) for near in tasks.values()]), len(tasks)


def ratio_of_spreads(rows: Sequence[dict], one: str, other: str, seed: int = 0) -> Interval:
    """Spread of a method over that of another on the same tasks, bootstrapped over tasks.

    Raises ValueError without two seeds on at least two tasks of both.
    """
    found = _variances(rows)
    first, second = (
        {(task, size): v for (task, method, size), v in found.items() if method == m}
        for m in (one, other)
    )
    names = sorted(first.keys() & second.keys())
    if len(names) < 2:
        raise ValueError(
            f"{one} and {other} have {len(names)} tasks in common on which there are two seeds; "
            "a spread needs two seeds, and its interval two tasks"
        )
    pairs = np.array([[first[name], second[name]] for name in names])
    drawn = np.random.default_rng(seed).integers(len(pairs), size=(2000, len(pairs)))
    sums = pairs[drawn].sum(1)
    low, high = np.quantile(np.sqrt(sums[:, 0] / sums[:, 1]), [0.025, 0.975])
    value = math.sqrt(pairs[:, 0].sum() / pairs[:, 1].sum())
    return Interval(value, min(low, value), max(high, value))


def ratio_of_errors(rows: Sequence[dict], one: str, other: str, seed: int = 0) -> Interval:
    """Root mean square error of a method over that of another, bootstrapped over tasks."""
    tasks = defaultdict(lambda: defaultdict(list))
    for row in rows:
        tasks[row["task"]][row["method"]].append((row["value"] - row["truth"]) ** 2)
    both = [[np.mean(t[one]), np.mean(t[other])] for t in tasks.values() if one in t and other in t]
    pairs = np.array(both)
    drawn = np.random.default_rng(seed).integers(len(pairs), size=(2000, len(pairs)))
    sums = pairs[drawn].sum(1)
    low, high = np.quantile(np.sqrt(sums[:, 0] / sums[:, 1]), [0.025, 0.975])
    value = math.sqrt(pairs[:, 0].sum() / pairs[:, 1].sum())
    return Interval(value, min(low, value), max(high, value))


SITUATIONS: dict[str, Callable[[dict], bool]] = {
    "one column each, up to 2 nats": lambda r: r["columns"] == 2 and r["truth"] < 2.01,
    "2 to 10 columns each": lambda r: 2 < r["columns"] <= 20,
    "more than 10 columns each": lambda r: r["columns"] > 20,
    "more than 3 nats": lambda r: r["truth"] > 3,
    "bent samples": lambda r: r["family"] == "warped",
    "heavy tails": lambda r: r["family"] == "Student-t",
    "edges": lambda r: r["family"] == "uniform noise",
    "clusters and symbols": lambda r: r["family"] == "mixture",
    "feature maps": lambda r: r["family"] == "feature map",
}


def guide(rows: Sequence[dict], enough: float = 0.1) -> list[dict]:
    """For each of `SITUATIONS` the methods of least RMSE, and the quickest that is good enough.

    "best": the method of least RMSE, then those that cannot be told from it (the 95 % interval over
    tasks of the ratio of their errors reaches 1; on a single task there is none, and nothing can be
    told); "rmse": the least; "quickest": the least seconds among the methods whose RMSE is at most
    `enough` nats ("none" if there is none); "bound": of those that promise a lower bound the one of
    least RMSE. The VIB bound is left out: outside of such tasks nobody knows the channel.
    """
    found = []
    for name, belongs in SITUATIONS.items():
        chosen = [row for row in rows if belongs(row) and row["method"] != "vib"]
        if not chosen:
            continue
        entries = sorted(table(chosen, ["method"]), key=lambda entry: entry["rmse"])
        good = [entry for entry in entries if entry["rmse"] <= enough]
        bounds = [e for e in entries if e["method"] in (*MAP_METHODS, "nwj")]
        found.append(
            {
                "situation": name,
                "tasks": entries[0]["tasks"],
                "best": _best(chosen, [entry["method"] for entry in entries]),
                "rmse": entries[0]["rmse"],
                "quickest": min(good, key=lambda e: e["seconds"])["method"] if good else "none",
                "bound": bounds[0]["method"],
                "bound rmse": bounds[0]["rmse"],
            }
        )
    return found


def _best(rows: Sequence[dict], methods: Sequence[str]) -> list[str]:
    """The first of the methods, which are in order, and those that cannot be told from it."""
    first, *others = methods
    if len({row["task"] for row in rows}) == 1:
        return list(methods)
    return [first, *(m for m in others if ratio_of_errors(rows, first, m).high >= 1)]


def _device(name: str) -> str:
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def _variances(rows: Sequence[dict]) -> dict[tuple[str, str, int], float]:
    """By task, method and size, where there are several seeds."""
    values = defaultdict(list)
    for row in rows:
        values[row["task"], row["method"], row["size"]].append(row["value"])
    return {key: float(np.var(v, ddof=1)) for key, v in values.items() if len(v) > 1}


def _bent(pair: tuple[np.ndarray, np.ndarray], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Both sides' columns (n, ...) bent to a normal by their ranks.

    All columns without ties would lie on one grid, where many distances are equal, and nearest
    neighbours are not for such. So their values are moved by less than half of the least step, and
    keep their ranks. In a column with ties, such as symbols, equal values stay equal.
    """
    draw, bent = np.random.default_rng(seed), []
    for side in pair:
        columns = side.reshape(len(side), -1)
        ordered = np.sort(columns, axis=0)
        differ = (ordered[1:] != ordered[:-1]).all(0)
        off = draw.uniform(-0.1, 0.1, columns.shape) / len(side) * differ
        bent.append(normal_scores(side, side) + off.reshape(side.shape))
    return tuple(bent)


def _trials(plan: Plan, tasks: Sequence[Task]) -> list[dict]:
    """Of tasks of one shape; all of them, and all seeds, train side by side."""
    seeds = range(plan.first, plan.first + plan.seeds)
    cases = [(task, seed, task.sample(plan.size, seed)) for task in tasks for seed in seeds]
    is_map = tasks[0].locations is not None
    # On vectors the three forms of InfoNCE are the same formula.
    usable = MAP_METHODS if is_map else [m for m in METHODS if m not in MAP_METHODS[1:]]
    methods = [method for method in usable if method in plan.methods]
    # What learns bends its columns itself, by their ranks, which this leaves as they are.
    bent = [_bent(pair, seed) for _, seed, pair in cases]
    shared = {"critic": plan.critic, "folds": plan.folds, "negatives": plan.negatives}
    settings = plan.settings(plan.first)
    found = estimate_many(bent, [m for m in methods if m != "vib"], settings, **shared)
    if "vib" in methods:
        drawn, channels = [pair for *_, pair in cases], [task.channel for task, *_ in cases]
        found |= estimate_many(drawn, ["vib"], settings, channels=channels, **shared)
    return [
        {
            "task": task.name,
            "family": task.family,
            "method": method,
            "size": plan.size,
            "seed": seed,
            "columns": 0 if is_map else x.shape[1] + z.shape[1],
            "truth": task.truth,
            "value": estimate.value,
            "error": estimate.standard_error,
            "seconds": estimate.trace["seconds"],
        }
        for method in methods
        for (task, seed, (x, z)), estimate in zip(cases, found[method], strict=True)
    ]
