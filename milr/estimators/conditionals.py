"""Methods that need the conditional density of z given x: known as a channel, or learned.

With the true density CLUB, leave-one-out and the VIB bound are upper bounds in expectation. With a
learned one they are neither: it may be as wrong in one place as in the other.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor, nn

from milr.estimators import bounds
from milr.estimators.door import Parts
from milr.estimators.training import Settings, train

HIDDEN = 128
# Of the log-variances: a density that is narrower than e^-4 follows noise in the samples. (CLUB's
# authors keep them between -1 and 1 in the code that they gave out. That tames CLUB, which is then
# the contrast of a density that is not the one that fits.)
NARROWEST = -8.0
READ = {
    "club": bounds.club_sampled,
    "club-full": bounds.club,
    "leave-one-out": bounds.leave_one_out,
}
MOST_PAIRS = 1024  # of a group in which every x meets every z


class NormalHead(nn.Module):
    """q(z | x) = N(mean(x), diag variance(x)), both of one hidden layer.

    inputs, outputs: number of columns of x and of z.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU())
        self.mean = nn.Linear(HIDDEN, outputs)
        self.log_variance = nn.Linear(HIDDEN, outputs)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """log q(z^j | x^j) of pairs, x (K, 1, dx) and z (K, dz), to (K,)."""
        mean, log_variance = self.moments(x)
        return _log_normal(z, mean, log_variance).sum(-1)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x), (K, dz) each, of x (K, 1, dx)."""
        hidden = self.first(x.squeeze(-2))
        return self.mean(hidden), self.log_variance(hidden).clamp(NARROWEST, -NARROWEST)

    def all_pairs(self, x: Tensor, z: Tensor) -> Tensor:
        """(K, K), entry [m, j] = log q(z^j | x^m) in nats, of x (K, 1, dx) and z (K, dz).

        Its square is written out, so that it is products.
        """
        mean, log_variance = self.moments(x)
        weight = (-log_variance).exp()
        square = weight @ (z**2).T - 2 * (weight * mean) @ z.T + (weight * mean**2).sum(-1)[:, None]
        constant = log_variance.sum(-1) + z.shape[1] * math.log(2 * math.pi)
        return -0.5 * (square + constant[:, None])


def fit(parts: tuple[Parts, Parts], settings: Settings) -> tuple:
    """A learned q(z | x) for each pair, by maximum likelihood, and the traces.

    parts: to train and to validate, of R pairs. Gives R heads and R traces.
    """
    training = parts[0]

    def make() -> nn.Module:
        return NormalHead(training.x.shape[-1], training.z.shape[-1])

    def quality(head: nn.Module, x: Tensor, z: Tensor) -> float:
        with torch.no_grad():
            return float(head(x, z).mean())

    networks, traces = train(
        make, lambda found: -found.mean(-1), quality, parts, settings, "q(z | x)"
    )
    return networks, [{**trace, "critic": "normal head"} for trace in traces]


@torch.no_grad()
def read(head: NormalHead, x: Tensor, z: Tensor, method: str) -> tuple[float, float, int]:
    """Value, standard error (nats) and number of samples, from a learned head.

    x: (n, 1, dx); z: (n, dz), held out; method: a key of `READ`.
    """
    groups = zip(_groups(x), _groups(z), strict=True)
    return _over_groups([READ[method](head.all_pairs(a, b).cpu().double()) for a, b in groups])


def read_channel(
    channel: Callable, train_z: ndarray, x: ndarray, z: ndarray, method: str
) -> tuple[float, float, int]:
    """Value, standard error and samples, from a known log p(z | x): `channel(x, z)` of pairs. Nats.

    x, z: (n, dx) and (n, dz), held out; train_z: (m, dz), which "vib" takes the moments of its
    N(z) from. Raises ValueError if the channel gives another shape than (pairs,), or NaN.
    """
    if method == "vib":
        log_p = _checked(channel(x, z), len(z))
        gap = log_p - _log_fitted(train_z, z)
        return float(gap.mean()), float(gap.std(ddof=1)) / math.sqrt(len(gap)), len(gap)
    groups = zip(_groups(torch.from_numpy(x)), _groups(torch.from_numpy(z)), strict=True)
    found = []
    for a, b in groups:
        k = len(a)
        crossed = channel(a.repeat_interleave(k, 0).numpy(), b.repeat(k, 1).numpy())
        crossed = _checked(crossed, k * k)
        found.append(READ[method](torch.from_numpy(crossed).view(k, k)))
    return _over_groups(found)


def _groups(values: Tensor) -> list[Tensor]:
    count = math.ceil(len(values) / MOST_PAIRS)
    size = len(values) // count
    return list(values[: size * count].split(size))


def _over_groups(found: list) -> tuple[float, float, int]:
    influence = torch.cat([one[1] for one in found])
    value = float(torch.stack([one[0] for one in found]).mean())
    return value, float(influence.std()) / math.sqrt(len(influence)), len(influence)


def _log_normal(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    square = (z - mean) ** 2 * (-log_variance).exp()
    return -0.5 * (square + log_variance + math.log(2 * math.pi))


def _log_fitted(train: ndarray, z: ndarray) -> ndarray:
    """log N(z) with the mean and deviation of each column of the train part, as in equation 8."""
    mean, deviation = train.mean(0), train.std(0)
    square = ((z - mean) / deviation) ** 2
    return -0.5 * (square + 2 * np.log(deviation) + math.log(2 * math.pi)).sum(1)


def _checked(found: ndarray, count: int) -> ndarray:
    if np.shape(found) != (count,) or np.isnan(found).any():
        raise ValueError(
            f"channel(x, z) gave an array of shape {np.shape(found)} for {count} pairs, or NaN; it "
            "must give log p(z | x) of each pair, in nats, shape (pairs,)"
        )
    return found
