"""The call: check, split, train, read."""

import math
import time
from collections.abc import Callable, Sequence

import torch
from numpy import ndarray

from milr import doors
from milr.estimators import conditionals, critics, direct, door
from milr.estimators.residual import with_normal
from milr.estimators.result import KINDS, METHODS, TRAINED, UPPER, Estimate
from milr.estimators.training import Settings
from milr.infonce import CRITICS as KINDS_OF_CRITIC

CRITICS = (*KINDS_OF_CRITIC, "three-layer", "residual", "best")


def estimate(
    x,
    z,
    *,
    method: str = "infonce",
    critic: str = "two-layer",
    steps: int = 1000,
    batch: int = 128,
    learning_rate: float = 3e-3,
    patience: int = 8,
    folds: int = 1,
    negatives: int | None = None,
    neighbours: int = 3,
    channel: Callable[[ndarray, ndarray], ndarray] | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
) -> Estimate:
    """Estimate I(x; z) from samples, in nats.

    x, z: arrays or tensors (n, dx) and (n, dz), row i of both a pair, the rows independent. For the
    InfoNCE methods x may be a feature map (n, N, C); the value is then that of the average
    location.
    method: one of `METHODS`; the package's docstring says what each is.
    critic: one of `CRITICS`. "linear", "two-layer" and "concatenated" are those of `milr.infonce`,
    "three-layer" is separable with one layer more, "residual" that on top of the log-ratio of a
    fitted normal (for a feature map, without it), and "best" trains a few kinds and takes the one
    that does best on the validation part.
    steps, batch, learning_rate: of the training; it ends early when the validation part has not
    gained for `patience` of its 20 looks. The state that it likes best is taken; that before the
    first step may be it.
    folds: 1 holds 30 % out; more train as many times on most and hold each sample out once (but for
    those that the folds don't divide), which costs as many times and leaves less to chance. The
    samples of a fold are each other's negatives: many folds lower what InfoNCE can reach.
    negatives: samples in a group of held-out ones, each the others' negative, which caps InfoNCE at
    its logarithm; None, or more than there are, for all of a fold that are held out (up to some
    thousands, and for a feature map of N locations up to 4096 / sqrt(N)).
    neighbours: of "ksg", which refuses values of which many are as far from one another.
    channel: the true log p(z | x) of pairs, for "vib" and, if given, "club", "club-full" and
    "leave-one-out", which are then upper bounds; it gets and gives numpy arrays.
    seed: of the split, the initial weights and the batches; global generators stay as they are.

    With one fold 60 % of the samples train, 10 % validate, and on 30 % the value is read; where
    something is learned, columns are first bent to normal scores by the ranks of those that train.
    "ksg" and "gaussian" learn nothing beforehand: they read all samples, as they are given. Raises
    ValueError or TypeError for what can't be estimated from, saying what to do.
    """
    settings = Settings(
        steps=steps, batch=batch, learning_rate=learning_rate, patience=patience,
        seed=seed, device=device, progress=progress,
    )  # fmt: skip
    how = {"critic": critic, "folds": folds, "negatives": negatives, "neighbours": neighbours}
    channels = None if channel is None else [channel]
    return estimate_many([(x, z)], [method], settings, channels=channels, **how)[method][0]


def estimate_many(
    pairs: Sequence[tuple],
    methods: Sequence[str],
    settings: Settings,
    *,
    critic: str = "two-layer",
    folds: int = 1,
    negatives: int | None = None,
    neighbours: int = 3,
    channels: Sequence[Callable] | None = None,
) -> dict[str, list[Estimate]]:
    """What `estimate` does, for several pairs of samples of one shape, and several methods.

    pairs: (x, z) each, as for `estimate`. Networks are trained side by side, and methods that read
    the same network share it. channels: one for each pair. "seconds" of a trace are the pair's
    share of the training and its reading. Gives method -> an estimate for each pair; raises as
    `estimate` does, and ValueError without a pair or a method and for pairs of several shapes.
    """
    door.known(critic, CRITICS, "critic")
    _check_settings(settings, folds, negatives, neighbours)
    _check_methods(methods, channels, len(pairs))
    # A conditional density is learned unless it is given.
    learned = {m: TRAINED[m] and not (TRAINED[m] == "conditional" and channels) for m in methods}
    how = [(m, settings.batch if learned[m] else None, folds) for m in methods]
    pairs = [door.checked(x, z, *how[0]) for x, z in pairs]
    for one in how[1:]:
        for x, z in pairs:
            door.checked(x, z, *one)
    _check_shapes(pairs)
    _check_counts(len(pairs[0][0]), methods, folds, neighbours)
    work = _Work(pairs, settings, critic, folds)
    found = {}
    for method in methods:
        if not TRAINED[method]:
            found[method] = [_direct(x, z, method, neighbours) for x, z in pairs]
        elif TRAINED[method] == "conditional" and channels is not None:
            found[method] = [
                _by_channel(*one, method, settings.seed, folds)
                for one in zip(pairs, channels, strict=True)
            ]
        else:
            found[method] = work.read(method, negatives)
    return found


class _Work:
    """The split samples of all pairs, and what was trained on them so far."""

    def __init__(self, pairs, settings: Settings, critic: str, folds: int):
        self.pairs, self.settings, self.critic, self.folds = pairs, settings, critic, folds
        self.views, self.trained = {}, {}

    def read(self, method: str, negatives: int | None) -> list[Estimate]:
        networks, traces = self._networks(TRAINED[method])
        found = []
        for i, (network, trace) in enumerate(zip(networks, traces, strict=True)):
            x, z = self.views[critics.view_of(trace["critic"])][2]
            found.append(_read_one(network, trace, x[i], z[i], method, negatives))
        starts = range(0, len(found), self.folds)
        return [_joined(found[i : i + self.folds]) for i in starts]

    # The caller may be where gradients are off; what is made in inference mode can't be learned
    # from, so that the parts are made here as well.
    @torch.inference_mode(False)
    @torch.enable_grad()
    def _networks(self, trained: str) -> tuple:
        if not self.views:
            self._split()
        if trained not in self.trained:
            if trained == "conditional":
                made = conditionals.fit(self.views["plain"][:2], self.settings)
            else:
                made = critics.fit(self.views, trained, self.critic, self.settings)
            self.trained[trained] = made
        return self.trained[trained]

    def _split(self) -> None:
        split = [
            door.prepared(x, z, parts)
            for x, z in self.pairs
            for parts in door.splits(len(x), self.folds, self.settings.seed)
        ]
        views = {"plain": split}
        if self.pairs[0][0].ndim == 2:
            views["normal"] = [with_normal(parts) for parts in split]
        for name, pairs in views.items():
            parts = zip(*pairs, strict=True)
            self.views[name] = tuple(door.stacked(part, self.settings.device) for part in parts)


def _read_one(network, trace: dict, x, z, method: str, negatives: int | None) -> Estimate:
    started = time.perf_counter()
    if TRAINED[method] == "conditional":
        value, error, samples = conditionals.read(network, x, z, method)
        locations = None
    else:
        value, error, locations, samples = critics.read(network, x, z, method, negatives)
    trace = trace | {"samples": samples} | ({"locations": locations} if locations else {})
    trace["seconds"] += time.perf_counter() - started
    return Estimate(value, error, KINDS[method], trace)


def _joined(folds: list[Estimate]) -> Estimate:
    """The mean over folds; their held-out samples are others, so their errors are independent."""
    first, count = folds[0], len(folds)
    if count == 1:
        return first
    value = sum(one.value for one in folds) / count
    error = math.sqrt(sum(one.standard_error**2 for one in folds)) / count
    trace = first.trace | {
        name: sum(one.trace[name] for one in folds) for name in ("samples", "seconds")
    }
    if "locations" in trace:
        columns = zip(*(one.trace["locations"] for one in folds), strict=True)
        trace["locations"] = [sum(column) / count for column in columns]
    return Estimate(value, error, first.kind, trace)


def _direct(x: ndarray, z: ndarray, method: str, neighbours: int) -> Estimate:
    started = time.perf_counter()
    if method == "ksg":
        value, error = direct.ksg(x, z, neighbours)
    else:
        value, error = direct.gaussian(x, z)
    trace = {"samples": len(x), "seconds": time.perf_counter() - started}
    return Estimate(value, error, KINDS[method], trace)


def _by_channel(pair, channel: Callable, method: str, seed: int, folds: int) -> Estimate:
    x, z = pair
    found = []
    for train, _, held_out in door.splits(len(x), folds, seed):
        started = time.perf_counter()
        value, error, samples = conditionals.read_channel(
            channel, z[train], x[held_out], z[held_out], method
        )
        trace = {"samples": samples, "seconds": time.perf_counter() - started}
        found.append(Estimate(value, error, UPPER, trace))
    return _joined(found)


def _check_counts(n: int, methods: Sequence[str], folds: int, neighbours: int) -> None:
    if "ksg" in methods and neighbours >= n:
        raise ValueError(
            f"neighbours is {neighbours} and there are {n} samples; give 1 or more, and fewer than "
            "samples (3 is usual)"
        )
    if folds > 1 and any(TRAINED[m] for m in methods) and n // folds < door.LEAST:
        raise ValueError(
            f"{folds} folds of {n} samples hold {n // folds} out at a time, and {door.LEAST} are "
            f"needed for a value with an error; give at most {n // door.LEAST} folds"
        )


def _check_settings(settings: Settings, folds: int, negatives: int | None, neighbours: int) -> None:
    counts = {name: getattr(settings, name) for name in ("steps", "batch", "patience", "checks")}
    doors.whole(1, **counts, folds=folds, neighbours=neighbours)
    doors.seed(settings.seed)
    doors.positive("3e-3 is usual", learning_rate=settings.learning_rate)
    if negatives is not None:
        doors.whole(2, negatives=negatives)  # for a group; None for all that are held out
    doors.device(settings.device)


def _check_methods(methods: Sequence[str], channels, pairs: int) -> None:
    if not pairs or not methods:
        raise ValueError(
            f"there are {pairs} pairs (x, z) and {len(methods)} methods; give at least one of each"
        )
    for method in methods:
        door.known(method, METHODS, "method")
    if "vib" in methods and channels is None:
        raise ValueError(
            "method 'vib' bounds the information of a known channel; give channel=, a function of "
            "(x, z) that returns log p(z | x) of each pair. A learned one bounds nothing: its "
            "minimum is 0"
        )
    if channels is None:
        return
    for channel in channels:
        if not callable(channel):
            raise TypeError(
                f"channel is {channel!r}; give a function of (x, z) that returns log p(z | x) of "
                "each pair, or None"
            )
    if len(channels) != pairs:
        raise ValueError(f"there are {len(channels)} channels for {pairs} pairs; give one for each")


def _check_shapes(pairs: Sequence[tuple]) -> None:
    shapes = sorted({(x.shape, z.shape) for x, z in pairs})
    if len(shapes) > 1:
        raise ValueError(
            f"the pairs (x, z) have the shapes {' and '.join(map(str, shapes))}; give those of one "
            "shape, and call again for the others"
        )
