"""What comes in: refused with a reason, or brought into the form that training takes."""

import difflib
import math
from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray
from scipy.special import ndtri
from torch import Tensor

from milr.estimators.result import METHODS

# Shares of the samples that critics learn from, and that stop them; the value is read on the rest.
TRAIN, VALIDATION = 0.6, 0.1
# A share of a batch's size that a part must at least have, so that it holds negatives.
LEAST = 8
MAP_METHODS = ("infonce", "infonce-paper", "infonce-pooled")
DENSITIES = ("ksg", "gaussian", "club", "club-full", "leave-one-out", "vib")


class Parts(NamedTuple):
    """Samples of several pairs of one shape, (R, n, N, C) and (R, n, D), float32."""

    x: Tensor
    z: Tensor


def known(name: str, allowed, what: str) -> str:
    """The name, if it is allowed.

    what: the setting that it is given for. Raises ValueError, with the nearest allowed name, if it
    is not.
    """
    if name in allowed:
        return name
    near = difflib.get_close_matches(str(name), allowed, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{what} is {name!r}; it must be one of {', '.join(allowed)}{hint}")


def checked(x, z, method: str, batch: int | None, folds: int = 1) -> tuple[ndarray, ndarray]:
    """x (n, dx) or (n, N, C) and z (n, dz) as float64.

    batch: of the training; None where nothing is learned.
    Raises TypeError for what holds no real numbers, and ValueError, which says what to do: for an
    unknown method, other shapes, different numbers of x and z, values that are not finite, columns
    that are constant, symbols where the method is for densities, a feature map where it takes none,
    and too few samples for the method or the batch.
    """
    known(method, METHODS, "method")
    x, z = (_numbers(values, name, method) for values, name in ((x, "x"), (z, "z")))
    if x.ndim == 3 and method not in MAP_METHODS:
        raise ValueError(
            f"x has shape {x.shape}, a feature map; {method!r} takes (n, dx). Give one location, "
            f"x[:, i], or use one of {', '.join(MAP_METHODS)}"
        )
    if x.ndim not in (2, 3) or z.ndim != 2:
        raise ValueError(
            f"x has shape {x.shape} and z {z.shape}; allowed are (n, dx) or (n, N, C) for x "
            "and (n, dz) for z. Flatten the further dimensions: z.reshape(len(z), -1)"
        )
    if len(x) != len(z):
        raise ValueError(
            f"{len(x)} samples of x and {len(z)} of z; row i of both must be one pair, "
            "so give as many of each"
        )
    _check_enough(len(x), method, batch, folds)
    for values, name in ((x, "x"), (z, "z")):
        _check_columns(values.reshape(len(values), -1), name)
    return x, z


def splits(n: int, folds: int, seed: int) -> list[tuple[ndarray, ndarray, ndarray]]:
    """Train, validation and held-out samples of each fold, drawn by the seed.

    Row numbers out of n, (rows,) each, three arrays for each fold. One fold holds 30 % out; of
    several, each holds out its own share of the samples, n // folds of them, and the few that
    remain are in no part.
    """
    order = np.random.default_rng([seed, 1]).permutation(n)
    if folds == 1:
        return [tuple(np.split(order, _ends(n)))]
    size = n // folds
    found = []
    for i in range(folds):
        rest = np.concatenate([order[: i * size], order[(i + 1) * size : folds * size]])
        rest = np.roll(rest, -i * size)  # each sample validates as rarely as the others
        stop = round(VALIDATION * len(rest))
        found.append((rest[stop:], rest[:stop], order[i * size : (i + 1) * size]))
    return found


def prepared(x: ndarray, z: ndarray, parts) -> tuple[tuple[ndarray, ndarray], ...]:
    """x (n, N, C) and z (n, D) of each part, the columns as normal scores.

    x, z: (n, dx) or (n, N, C), and (n, dz), all samples; parts: row numbers of each part. N is 1
    for vectors; to a feature map's channels the code of the location is added.
    """
    # Ranks of the train part alone, so that nothing of what is held out is learned.
    x, z = (normal_scores(side, side[parts[0]]) for side in (x, z))
    return tuple((_located(x[part]), z[part]) for part in parts)


def normal_scores(values: ndarray, train: ndarray) -> ndarray:
    """Each column of values (n, ...) bent to a normal by the ranks of train (m, ...).

    A monotone map of a column: it adds no information, so what bounds that of the image bounds that
    of the original, and heavy tails can't upset a critic.
    """
    columns = values.reshape(len(values), -1)
    train = np.sort(train.reshape(len(train), -1), axis=0)
    bent = np.empty_like(columns)
    for i in range(columns.shape[1]):
        below = np.searchsorted(train[:, i], columns[:, i], "left")
        upto = np.searchsorted(train[:, i], columns[:, i], "right")
        bent[:, i] = ndtri(((below + upto) / 2 + 0.5) / (len(train) + 1))
    return bent.reshape(values.shape)


def stacked(parts: list[tuple[ndarray, ndarray]], device: str) -> Parts:
    """One part of several pairs, as tensors on the device.

    parts: x (n, N, C) and z (n, D) of each of R pairs. Gives `Parts`, (R, n, N, C) and (R, n, D).
    """
    sides = (np.stack(side).astype(np.float32) for side in zip(*parts, strict=True))
    return Parts(*(torch.from_numpy(side).to(device) for side in sides))


def _ends(n: int) -> ndarray:
    return np.cumsum([round(share * n) for share in (TRAIN, VALIDATION)])


def _numbers(values, name: str, method: str) -> ndarray:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} holds {array.dtype}; give an array or a tensor of real numbers")
    if array.dtype.kind in "iub" and method in DENSITIES:
        raise ValueError(
            f"{name} holds {array.dtype}, and {method!r} is for continuous values. If these are "
            f"measurements, add noise as wide as their steps: {name} + g.uniform(-0.5, 0.5, "
            f"{name}.shape), with one g = np.random.default_rng(1) for x and z; if they are "
            "symbols, use a critic (infonce) on their one-hot codes"
        )
    if array.ndim == 1:
        raise ValueError(
            f"{name} has shape {array.shape}; give one row a sample, {name}.reshape(-1, 1) "
            "for a single column"
        )
    array = array.astype(np.float64)
    if bad := int((~np.isfinite(array)).sum()):
        raise ValueError(
            f"{name} holds {bad} values that are NaN or infinite; all must be finite: leave out "
            "those samples, in x and z alike"
        )
    return array


def _check_enough(n: int, method: str, batch: int | None, folds: int) -> None:
    if batch is not None:
        if batch < 2:
            raise ValueError(f"batch is {batch}; a critic needs at least 2, for its negatives")
        share = TRAIN if folds == 1 else (1 - VALIDATION) * (folds - 1) / folds
        train = round(share * n)
        if train < batch:
            raise ValueError(
                f"{n} samples, of which {train} are learned from, and a batch of {batch}; give at "
                f"least {math.ceil(batch / share)} samples, or a batch of at most {train}"
            )
    least = LEAST if batch is None else math.ceil(LEAST / VALIDATION)
    if n < least:
        raise ValueError(f"{n} samples; {method!r} needs at least {least}")


def _check_columns(columns: ndarray, name: str) -> None:
    if columns.shape[1] == 0:
        raise ValueError(f"{name} has no column; give at least one")
    constant = np.flatnonzero(np.ptp(columns, axis=0) == 0)
    if len(constant):
        raise ValueError(
            f"{name} has {len(constant)} constant columns, the first at {constant[0]} (locations "
            "and channels flattened); a constant tells nothing: leave it out"
        )


def _located(x: ndarray) -> ndarray:
    """(n, dx) to (n, 1, dx); to a feature map the binary code of each location is added.

    One critic serves all locations, and may then read them differently; a code that is the same for
    all samples carries no information.
    """
    if x.ndim == 2:
        return x[:, None]
    n, locations = x.shape[:2]
    bits = np.arange(max(1, math.ceil(math.log2(locations))))
    code = 2.0 * ((np.arange(locations)[:, None] >> bits) & 1) - 1
    return np.concatenate([x, np.broadcast_to(code, (n, *code.shape))], axis=2)
