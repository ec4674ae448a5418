"""Equation 3 of the poster as it is printed: one network for both terms, and their difference.

Its T would have to be a function on spaces of different dimension. The only way to compute it is to
write a single unit X_i as the layer X with all other units at 0. So T sees (X, Q_k) in the first
term and (X_i, X_j) in the second.
"""

import numpy as np
import torch
from torch import Tensor

from milr.peers.nif import mine


def joint_supremum(
    source: np.ndarray, target: np.ndarray, i: int, beta: float, settings: mine.Settings
) -> np.ndarray:
    """A - beta * (B_1 + ... + B_(i-1)) in nats while one T is trained to make it large.

    source (n, D), target (n, units); i counts from 1, and 1 has no second term. Returns
    (steps, units): each target unit has a T of its own. The supremum is infinite from i = 2 on,
    since B is unbounded below: what is reached is a matter of how many steps one takes.
    Raises ValueError for an i that the layer does not have.
    """
    if not 1 <= i <= source.shape[1]:
        raise ValueError(f"unit {i} of a layer of {source.shape[1]}; give 1 to {source.shape[1]}")
    xs, zs = _standard(source), _standard(target)
    count = target.shape[1]
    whole, end = xs.expand(count, -1, -1), zs.T
    alone = torch.zeros_like(whole)
    alone[..., i - 1] = whole[..., i - 1]
    weights = mine.initial([source.shape[1]] * count, settings.seed, 0)
    optimizer = torch.optim.Adam(weights, settings.rate)
    curve = []
    for rows, shifts in mine.batches(len(xs), settings):
        value = mine.bound(weights, whole[:, rows], end[:, rows], shifts, len(xs))
        for j in range(i - 1):
            other = xs[rows, j].expand(count, -1)
            value = value - beta * mine.bound(weights, alone[:, rows], other, shifts, len(xs))
        optimizer.zero_grad()
        (-value.sum()).backward()
        optimizer.step()
        curve.append(value.detach().numpy())
    return np.array(curve)


def _standard(values: np.ndarray) -> Tensor:
    spread = values.std(0)
    scaled = (values - values.mean(0)) / np.where(spread > 0, spread, 1)
    return torch.from_numpy(scaled.astype(np.float32))
