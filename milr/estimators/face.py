"""The call: check, split, train, read."""

import time
from collections.abc import Callable, Sequence

from numpy import ndarray

from milr.estimators import conditionals, critics, direct, door
from milr.estimators.result import KINDS, METHODS, TRAINED, UPPER, Estimate
from milr.estimators.training import Settings
from milr.infonce import CRITICS as KINDS_OF_CRITIC

CRITICS = (*KINDS_OF_CRITIC, "best")


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
    critic: one of `CRITICS`; "best" trains each kind and takes the one whose bound on the
    validation part is highest.
    steps, batch, learning_rate: of the training; it ends early when the validation part has not
    gained for `patience` of its 20 looks.
    negatives: samples in a group of held-out ones, each the others' negative, which caps InfoNCE at
    its logarithm; None for all that are held out (up to some thousands).
    neighbours: of "ksg".
    channel: the true log p(z | x) of pairs, for "vib" and, if given, "club", "club-full" and
    "leave-one-out", which are then upper bounds; it gets and gives numpy arrays.
    seed: of the split, the initial weights and the batches; global generators stay as they are.

    Of the samples 60 % train, 10 % validate, and on 30 % the value is read; "ksg" and "gaussian"
    use all. Raises ValueError or TypeError for what can't be estimated from, saying what to do.
    """
    settings = Settings(
        steps=steps, batch=batch, learning_rate=learning_rate, patience=patience,
        seed=seed, device=device, progress=progress,
    )  # fmt: skip
    how = {"critic": critic, "negatives": negatives, "neighbours": neighbours}
    channels = None if channel is None else [channel]
    return estimate_many([(x, z)], [method], settings, channels=channels, **how)[method][0]


def estimate_many(
    pairs: Sequence[tuple],
    methods: Sequence[str],
    settings: Settings,
    *,
    critic: str = "two-layer",
    negatives: int | None = None,
    neighbours: int = 3,
    channels: Sequence[Callable] | None = None,
) -> dict[str, list[Estimate]]:
    """What `estimate` does, for several pairs of samples of one shape, and several methods.

    Networks are trained side by side, and methods that read the same network share it. channels:
    one for each pair. "seconds" of a trace are the pair's share of the training and its reading.
    """
    door.known(critic, CRITICS, "critic")
    _check_settings(settings, methods, channels)
    pairs = [door.checked(x, z, m, settings.batch) for x, z in pairs for m in methods[:1]]
    for method in methods[1:]:
        for x, z in pairs:
            door.checked(x, z, method, settings.batch)
    work = _Work(pairs, settings, critic)
    found = {}
    for method in methods:
        if not TRAINED[method]:
            found[method] = [_direct(x, z, method, neighbours) for x, z in pairs]
        elif TRAINED[method] == "conditional" and channels is not None:
            found[method] = [
                _by_channel(*one, method, settings.seed)
                for one in zip(pairs, channels, strict=True)
            ]
        else:
            found[method] = work.read(method, negatives)
    return found


class _Work:
    """The split samples of all pairs, and what was trained on them so far."""

    def __init__(self, pairs, settings: Settings, critic: str):
        self.pairs, self.settings, self.critic = pairs, settings, critic
        self.parts, self.trained = None, {}

    def read(self, method: str, negatives: int | None) -> list[Estimate]:
        networks, traces = self._networks(TRAINED[method])
        held_out = self.parts[2]
        return [
            self._read_one(*one, method, negatives)
            for one in zip(networks, traces, *held_out, strict=True)
        ]

    def _networks(self, trained: str) -> tuple:
        if self.parts is None:
            split = [door.split(x, z, self.settings.seed) for x, z in self.pairs]
            device = self.settings.device
            self.parts = [door.stacked(part, device) for part in zip(*split, strict=True)]
        if trained not in self.trained:
            if trained == "conditional":
                made = conditionals.fit(self.parts[:2], self.settings)
            else:
                made = critics.fit(self.parts[:2], trained, self.critic, self.settings)
            self.trained[trained] = made
        return self.trained[trained]

    def _read_one(self, network, trace, x, z, method, negatives) -> Estimate:
        started = time.perf_counter()
        if TRAINED[method] == "conditional":
            value, error, samples = conditionals.read(network, x, z, method)
            locations = None
        else:
            value, error, locations, samples = critics.read(network, x, z, method, negatives)
        trace = trace | {"samples": samples} | ({"locations": locations} if locations else {})
        trace["seconds"] += time.perf_counter() - started
        return Estimate(value, error, KINDS[method], trace)


def _direct(x: ndarray, z: ndarray, method: str, neighbours: int) -> Estimate:
    started = time.perf_counter()
    if method == "ksg":
        value, error = direct.ksg(x, z, neighbours)
    else:
        value, error = direct.gaussian(x, z)
    trace = {"samples": len(x), "seconds": time.perf_counter() - started}
    return Estimate(value, error, KINDS[method], trace)


def _by_channel(pair, channel: Callable, method: str, seed: int) -> Estimate:
    started = time.perf_counter()
    (_, train_z), _, (x, z) = door.raw_split(*pair, seed)
    value, error, samples = conditionals.read_channel(channel, train_z, x, z, method)
    trace = {"samples": samples, "seconds": time.perf_counter() - started}
    return Estimate(value, error, UPPER, trace)


def _check_settings(settings: Settings, methods: Sequence[str], channels) -> None:
    for method in methods:
        door.known(method, METHODS, "method")
    for name in ("steps", "batch", "patience"):
        if getattr(settings, name) < 1:
            raise ValueError(f"{name} is {getattr(settings, name)}; it must be at least 1")
    if "vib" in methods and channels is None:
        raise ValueError(
            "method 'vib' bounds the information of a known channel; give channel=, a function of "
            "(x, z) that returns log p(z | x) of each pair. A learned one bounds nothing: its "
            "minimum is 0"
        )
