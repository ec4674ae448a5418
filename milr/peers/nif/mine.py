"""Equation 1 of the poster for many pairs at once: MINE, all networks trained side by side.

The information of a link is read by a small network T(x, z) of its own (Belghazi et al. 2018), as

    mean of T over rows  -  log of the mean of e^T over all pairs of rows,

the bound of Donsker and Varadhan. A layer has hundreds of links. Their networks have one shape, so
they are stacked: a step of all of them is a few batched products. All is in nats.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from milr import doors

HIDDEN = 32  # units of T
DECAY = 1e-3  # of T's weights, in each step, relative to the learning rate
SHIFTS = 3  # rows of x that a row of z is taken together with in a step, beside its own


@dataclass(frozen=True)
class Settings:
    """How T is trained: steps of `batch` rows, with Adam; and how many rows it is read on."""

    steps: int = 120
    batch: int = 64
    rate: float = 0.02
    read: int = 192
    seed: int = 0

    def __post_init__(self):
        doors.whole(1, steps=self.steps, read=self.read)
        doors.whole(2, batch=self.batch)
        doors.positive("such as 0.02", rate=self.rate)


def estimate(
    x: Sequence[np.ndarray],
    z: Sequence[np.ndarray],
    settings: Settings,
    learn: np.ndarray | None = None,
    read: np.ndarray | None = None,
    first: int = 0,
) -> np.ndarray:
    """Estimates in nats of I(x[p]; z[p]), each by a network of its own.

    x: P arrays (n, columns); z: P arrays (n,). Columns are standardised on the rows `learn`, which
    T is trained on (all if None); the value is read on the rows `read` (all if None), or on as many
    of them as the settings say, taken evenly. first: the number of the first pair, which its
    network's initial weights depend on: a pair alone, with its number, gives what it gives beside
    others.

    With `learn` equal to `read`, as in the poster, the value is at most the logarithm of the number
    of rows read, and at most what these rows, taken for all there is, truly share. A constant x or
    z reads 0 or a little less. Raises ValueError for numbers of rows or pairs that differ, other
    shapes, numbers that are not finite, and no row to learn from or read on.
    """
    _check(x, z)
    rows = np.arange(len(z[0]))
    learn, read = (rows if chosen is None else chosen for chosen in (learn, read))
    doors.whole(1, **{"number of rows to learn from": len(learn), "to read on": len(read)})
    xs, zs = _stacked(x, z, learn)
    weights = initial([one.shape[1] for one in x], settings.seed, first)
    _train(weights, xs[:, learn], zs[:, learn], settings)
    some = read[np.linspace(0, len(read) - 1, min(settings.read, len(read))).astype(int)]
    return _read(weights, xs[:, some], zs[:, some]).numpy()


def bound(
    weights: Sequence[Tensor], x: Tensor, z: Tensor, shifts: Sequence[int], rows: int
) -> Tensor:
    """Donsker-Varadhan (P,) of a batch x (P, n, D), z (P, n) out of so many rows.

    The second mean is over all pairs of the rows. Of these, one in `rows` is a row's own, and the
    others are seen by way of the z's of rows `shifts` places further. Without its own, T could grow
    there without end.
    """
    beside = torch.stack([z, *(z.roll(shift, 1) for shift in shifts)], 1)  # (P, S + 1, n)
    scores = score(weights, x, beside)
    share = torch.full((len(shifts) + 1, 1), (1 - 1 / rows) / len(shifts))
    share[0] = 1 / rows
    pairs = (scores + (share / z.shape[1]).log()).flatten(1)
    return scores[:, 0].mean(1) - pairs.logsumexp(1)


def score(weights: Sequence[Tensor], x: Tensor, beside: Tensor) -> Tensor:
    """T (P, S, n) of each row of x (P, n, D) with each of S z's, beside (P, S, n)."""
    of_x, of_z, bias, out = weights
    from_x = torch.baddbmm(bias, x, of_x)[:, None]
    hidden = torch.addcmul(from_x, beside[..., None], of_z[:, None]).relu_()
    return (hidden.flatten(1, 2) @ out).view(beside.shape)


def batches(n: int, settings: Settings):
    """Rows of a batch and shifts within it, for each step."""
    random = np.random.default_rng(settings.seed)
    size = min(settings.batch, n)
    for _ in range(settings.steps):
        shifts = random.choice(size - 1, min(SHIFTS, size - 1), replace=False) + 1
        yield random.permutation(n)[:size], shifts.tolist()


def rate_at(step: int, settings: Settings) -> float:
    """A cosine from the rate down to a hundredth of it."""
    return settings.rate * (0.505 + 0.495 * math.cos(math.pi * step / settings.steps))


@torch.enable_grad()
def _train(weights: list[Tensor], x: Tensor, z: Tensor, settings: Settings) -> None:
    optimizer = torch.optim.AdamW(weights, settings.rate, weight_decay=DECAY)
    count = x.shape[1]
    for step, (rows, shifts) in enumerate(batches(count, settings)):
        optimizer.param_groups[0]["lr"] = rate_at(step, settings)
        loss = -bound(weights, x[:, rows], z[:, rows], shifts, count).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def _read(weights: list[Tensor], x: Tensor, z: Tensor) -> Tensor:
    """Equation 1 with its means over all rows, and over all pairs of rows; a link at a time.

    The scores of one link fit the processor's own memory, those of all would have to be fetched.
    """
    n, found = x.shape[1], []
    for p in range(len(x)):
        own = [w[p : p + 1] for w in weights]
        every = score(own, x[p : p + 1], z[p][None, :, None].expand(1, n, n))[0]
        found.append(every.diagonal().mean() - every.flatten().logsumexp(0) + 2 * math.log(n))
    return torch.stack(found)


def initial(columns: Sequence[int], seed: int, first: int) -> list[Tensor]:
    """Weights of a network for each number of columns, each drawn whatever the others are.

    Of P networks with D columns at most: those of x (P, D, HIDDEN), of z (P, 1, HIDDEN), the offset
    (P, 1, HIDDEN) and the weights of the output (P, HIDDEN, 1), as `score` takes them.
    """
    widest = max(columns)
    drawn = [_draw(own, widest, [seed, first + p]) for p, own in enumerate(columns)]
    stacked = (np.stack(one).astype(np.float32) for one in zip(*drawn, strict=True))
    return [torch.from_numpy(one).requires_grad_() for one in stacked]


def _draw(columns: int, widest: int, seed: list[int]) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(seed)
    of_x, of_z = np.zeros((widest, HIDDEN)), random.standard_normal((1, HIDDEN))
    bias, out = random.standard_normal((1, HIDDEN)), random.standard_normal((HIDDEN, 1))
    of_x[:columns] = random.standard_normal((columns, HIDDEN)) / math.sqrt(columns)
    return of_x, of_z, bias, 0.1 * out / math.sqrt(HIDDEN)


def _stacked(x, z, learn: np.ndarray) -> tuple[Tensor, Tensor]:
    """Standardised (P, n, D), with columns of zeros up to the widest, and (P, n)."""
    widest = max(one.shape[1] for one in x)
    xs = np.zeros((len(x), len(x[0]), widest), np.float32)
    for place, one in zip(xs, x, strict=True):
        place[:, : one.shape[1]] = _standardised(one, learn)
    zs = np.stack([_standardised(one, learn) for one in z]).astype(np.float32)
    return torch.from_numpy(xs), torch.from_numpy(zs)


def _standardised(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    learned = values[rows].astype(np.float64)
    spread = learned.std(0)
    return (values - learned.mean(0)) / np.where(spread > 0, spread, 1)


def _check(x, z) -> None:
    if len(x) != len(z) or not len(x):
        raise ValueError(f"{len(x)} arrays x and {len(z)} arrays z; give one of each for a pair")
    shapes = {len(one) for one in (*x, *z)}
    if len(shapes) > 1:
        raise ValueError(
            f"the pairs have from {min(shapes)} to {max(shapes)} rows; row r of all must be "
            "of one sample, so give as many of each"
        )
    for name, arrays, dims in (("x", x, 2), ("z", z, 1)):
        for one in arrays:
            if np.ndim(one) != dims:
                raise ValueError(
                    f"an array {name} has shape {np.shape(one)}; give x as (n, columns), z as (n,)"
                )
            if not np.isfinite(one).all():
                raise ValueError(f"an array {name} has NaN or infinite numbers; leave out its rows")
