"""The flow of information that is exact: all inputs of a binary network, or all rows of a table.

Units are columns of whole numbers (n, units), and all n rows are equally likely: every input of a
binary network once, or the rows of a table whose units are cut into levels. All is in nats.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from milr.peers.nif.flow import Layer, Told, entropy

MOST_INPUTS = 16  # of a binary network: 2^16 rows


def inputs(count: int) -> np.ndarray:
    """Every input of `count` bits once, (2^count, count). Raises ValueError for too many bits."""
    if not 1 <= count <= MOST_INPUTS:
        raise ValueError(
            f"{count} bits have 2^{count} inputs; all can be gone through for 1 to {MOST_INPUTS}"
        )
    return np.array(list(itertools.product((0, 1), repeat=count)))


def threshold_units(
    weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Layers of a binary network at all its inputs: a unit is 1 where weights @ bits + bias > 0.

    weights: (units, units before) of each layer. Returns the inputs and each layer's units.
    """
    layers = [inputs(weights[0].shape[1])]
    for weight, bias in zip(weights, biases, strict=True):
        layers.append((layers[-1] @ weight.T + bias > 0).astype(int))
    return layers


def drawn_network(widths: Sequence[int], seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights of -1, 0 and 1, and thresholds half way between sums, for `threshold_units`.

    For each layer after the first of `widths` weights (units, units before) and biases (units,).
    """
    random = np.random.default_rng(seed)
    weights = [random.integers(-1, 2, (b, a)) for a, b in zip(widths, widths[1:], strict=False)]
    return weights, [0.5 - (one.sum(1) > 0) for one in weights]


def information(a: np.ndarray, b: np.ndarray, given: np.ndarray | None = None) -> float:
    """I(A; B | C) in nats of columns (n, columns)."""
    c = a[:, :0] if given is None else given
    parts = ([a, c], [b, c], [a, b, c], [c])
    ac, bc, abc, only_c = (entropy(np.concatenate(one, axis=1)) for one in parts)
    return ac + bc - abc - only_c


def layer(source: np.ndarray, target: np.ndarray) -> Layer:
    """What `flow.measure` estimates, exactly, from a layer (n, D) to the next, (n, T)."""
    d = source.shape[1]
    shared = np.zeros((d, d))
    for i, j in itertools.combinations(range(d), 2):
        shared[i, j] = shared[j, i] = information(source[:, [i]], source[:, [j]])
    return Layer(np.array([information(source, q[:, None]) for q in target.T]), shared)


def told(source: np.ndarray, target: np.ndarray) -> Told:
    """What `flow.tell` estimates, exactly, from a layer (n, D) to the next, (n, T)."""
    places, ends = range(source.shape[1]), [q[:, None] for q in target.T]
    pairs = [[information(source[:, [i]], q) for q in ends] for i in places]
    chain = [[information(source[:, [i]], q, source[:, :i]) for q in ends] for i in places]
    return Told(
        np.array(pairs),
        np.array(chain),
        np.array([information(source, q) for q in ends]),
        np.array([entropy(q) for q in ends]),
    )
