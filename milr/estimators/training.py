"""Training of several small networks at once, each on samples of its own.

Networks of one shape are stacked, so that a step of all of them is a few large products instead of
many small ones: that is what makes a benchmark of many tasks and seeds quick.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from tqdm.auto import tqdm

from milr.estimators.door import Parts

DECAY = 1e-3  # of the weights, in each step, relative to the learning rate


@dataclass(frozen=True)
class Settings:
    """How to train; `estimate` says what each means."""

    steps: int = 1000
    batch: int = 128
    learning_rate: float = 3e-3
    patience: int = 8
    checks: int = 20
    seed: int = 0
    device: str = "cpu"
    progress: bool = True


def train(
    make: Callable[[], nn.Module],
    loss: Callable[[Tensor], Tensor],
    quality: Callable[[nn.Module, Tensor, Tensor], float],
    parts: tuple[Parts, Parts],
    settings: Settings,
    label: str,
) -> tuple[list[nn.Module], list[dict]]:
    """R trained networks with their traces, R being the pairs in `parts`.

    make: a fresh network, called as network(x, z). loss: of what R networks gave, (R, ...) to (R,).
    quality: of a network on a validation part, looked at before the first step and at each of the
    `checks`; the state in which it is best is kept, and training ends when no network has become
    better for `patience` of them.
    """
    training, validation = parts
    started = time.perf_counter()
    base, weights = _stack(make, len(training.x), settings)
    forward = torch.vmap(lambda w, x, z: functional_call(base, w, (x, z)))
    optimizer = torch.optim.AdamW(weights.values(), settings.learning_rate, weight_decay=DECAY)
    judged = partial(_judged, quality, base, validation)
    best = _Best(weights, judged(weights))  # a critic may begin at the best there is
    every = max(1, settings.steps // settings.checks)
    draws = torch.Generator().manual_seed(settings.seed)
    curve = []
    bar = tqdm(range(settings.steps), label, leave=False, disable=not settings.progress)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _schedule(step / settings.steps)
        # None twice: a sample must not be its own negative.
        chosen = torch.randperm(training.x.shape[1], generator=draws)[: settings.batch]
        losses = loss(forward(weights, training.x[:, chosen], training.z[:, chosen]))
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
        curve.append(-losses.detach())
        if (step + 1) % every == 0 or step + 1 == settings.steps:
            best.look(step + 1, weights, judged(weights))
            if best.idle() >= settings.patience:
                break
    bar.close()
    spent = (time.perf_counter() - started) / len(training.x)
    return _unstack(base, best.weights), best.traces(torch.stack(curve).cpu(), spent)


class _Best:
    """The state of each network in which it was best on the validation part."""

    def __init__(self, weights: dict[str, Tensor], found: list[float]):
        self.weights = {name: value.detach().clone() for name, value in weights.items()}
        self.values = [-math.inf] * len(found)
        self.steps, self.found, self.last = [], [], 0
        self.look(0, weights, found)

    def look(self, step: int, weights: dict[str, Tensor], found: list[float]) -> None:
        self.steps.append(step)
        self.found.append(found)
        for i, value in enumerate(found):
            if value > self.values[i]:
                self.values[i], self.last = value, len(self.steps)
                for name in weights:
                    self.weights[name][i] = weights[name][i].detach()

    def idle(self) -> int:
        return len(self.steps) - self.last

    def traces(self, curve: Tensor, seconds: float) -> list[dict]:
        return [
            {
                "train": [round(value, 5) for value in curve[:, i].tolist()],
                "step": list(self.steps),
                "validation": [row[i] for row in self.found],
                "best": self.values[i],
                "seconds": seconds,
            }
            for i in range(curve.shape[1])
        ]


def _judged(quality, base: nn.Module, validation: Parts, weights) -> list[float]:
    networks = _unstack(base, weights)
    return [quality(*one) for one in zip(networks, *validation, strict=True)]


def _stack(make, count: int, settings: Settings) -> tuple[nn.Module, dict[str, Tensor]]:
    """A network as the pattern, and the weights of `count` fresh ones."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)
        networks = [make().to(settings.device) for _ in range(count)]
    weights, _ = stack_module_state(networks)
    return networks[0], {name: w.detach().requires_grad_() for name, w in weights.items()}


def _unstack(base: nn.Module, weights: dict[str, Tensor]) -> list[nn.Module]:
    networks = []
    for i in range(len(next(iter(weights.values())))):
        network = copy.deepcopy(base).requires_grad_(False)
        network.load_state_dict({name: value[i].detach() for name, value in weights.items()})
        networks.append(network)
    return networks


def _schedule(share: float) -> float:
    """A short rise, then a cosine down to a hundredth."""
    return min(1.0, share / 0.05 + 0.05) * (0.505 + 0.495 * math.cos(math.pi * share))
