"""Links between units, and what flows along paths of them: equations 2 and 4 of the poster.

A layer is an array (n, units): what its units say to n rows of a table. The links from a layer to
the next are an array (units, next units). `Layer` holds the estimates, in nats, that links are made
of; each comes from a network of its own, all of a layer trained side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from milr.peers.nif.mine import Settings, estimate


@dataclass(frozen=True, eq=False)
class Layer:
    """Estimates for the links from one layer (D units) to the next (T units), in nats.

    relevance:  (T,) I(X; Q_k), of the whole layer
    redundancy: (D, D) I(X_i; X_j), symmetric, 0 on the diagonal
    """

    relevance: np.ndarray
    redundancy: np.ndarray


@dataclass(frozen=True, eq=False)
class Told:
    """Held-out estimates of what units tell about ends that are read at a few levels.

    pairs:   (D, T) I(X_i; Q_k) in nats
    chain:   (D, T) I(X_i; Q_k | X_1, ..., X_(i-1)) in nats; a column sums to `whole`
    whole:   (T,) I(X; Q_k) in nats
    entropy: (T,) H(Q_k) in nats, exact for the rows; 0 for a constant end
    """

    pairs: np.ndarray
    chain: np.ndarray
    whole: np.ndarray
    entropy: np.ndarray


def measure(networks: Sequence[Sequence[np.ndarray]], settings: Settings) -> list[list[Layer]]:
    """What the poster's links need, of networks that are given by their layers (n, units).

    Read from the rows that were learned from, as MINE is there. Returns the layers of each network.
    """
    return _by_network([_measure(pairs, settings) for pairs in _steps(networks)])


def tell(
    networks: Sequence[Sequence[np.ndarray]],
    settings: Settings,
    learn: np.ndarray,
    read: np.ndarray,
    levels: int = 4,
) -> list[list[Told]]:
    """What corrected links need: separate networks T, read on rows that they have not seen.

    networks: as for `measure`; learn, read: places (rows,) of the rows for either. Between
    continuous values that determine each other the information is infinite. So an end is read at
    `levels` levels, and no link holds more than the entropy of its end.
    """
    return _by_network([_tell(pairs, settings, learn, read, levels) for pairs in _steps(networks)])


def printed(layer: Layer, beta: float, order: Sequence[int] | None = None) -> np.ndarray:
    """Equation 2: relevance less beta times what a unit shares with those before it, (D, T) nats.

    order: which unit comes first, second, ...; the poster has none but that of the columns.
    """
    order = np.arange(len(layer.redundancy)) if order is None else np.asarray(order)
    place = np.argsort(order)
    before = place[None, :] < place[:, None]
    shared = (layer.redundancy * before).sum(1)
    return layer.relevance[None] - beta * shared[:, None]


def normalised(links: np.ndarray, entropy: np.ndarray) -> np.ndarray:
    """Links (D, T) as shares of the entropy of their ends: without a unit. 0 for a constant end."""
    return links / np.where(entropy > 0, entropy, np.inf)


def carried(links: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Links (D, T) of all layers with those below 0 set to 0: they carry nothing."""
    return [np.maximum(one, 0) for one in links]


def attribution(links: Sequence[np.ndarray]) -> np.ndarray:
    """Equation 4, (features, classes): over all paths, the sum of the products of their links.

    links: a matrix (units, next units) for each step. That sum is the product of the matrices. The
    poster adds a sum over classes C_j, which would leave nothing of j: a feature's total is the sum
    over the classes of its row here.
    """
    return np.linalg.multi_dot([*links]) if len(links) > 1 else links[0]


def through(links: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What flows through each hidden unit: the sum over the paths that pass it, (units,) a layer.

    links: a matrix (units, next units) for each step. It is what reaches the unit from all
    features, times what goes on from it to all classes.
    """
    reaches, goes_on = [np.ones(len(links[0]))], [np.ones(links[-1].shape[1])]
    for one in links[:-1]:
        reaches.append(reaches[-1] @ one)
    for one in links[:0:-1]:
        goes_on.insert(0, one @ goes_on[0])
    return [a * b for a, b in zip(reaches[1:], goes_on, strict=False)]


def cut(values: np.ndarray, levels: int) -> np.ndarray:
    """Columns (n, units) as whole numbers: which of so many levels of about equal share.

    Equal values are of one level, so that a unit that is often 0 has fewer. A column of no more
    values than levels keeps them all.
    """
    found = np.empty(values.shape, np.int64)
    for i, column in enumerate(values.T):
        distinct, place = np.unique(column, return_inverse=True)
        ends = np.unique(np.quantile(column, np.arange(1, levels) / levels))
        found[:, i] = place if len(distinct) <= levels else np.searchsorted(ends, column, "left")
    return found


def entropy(codes: np.ndarray) -> float:
    """H in nats of columns of whole numbers (n, columns), all rows being equally likely."""
    counts = np.unique(codes, axis=0, return_counts=True)[1]
    share = counts / len(codes)
    return float(-(share * np.log(share)).sum())


def _steps(networks) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """For each step from a layer to the next, the two layers in each of the networks."""
    return [
        [(one[step], one[step + 1]) for one in networks] for step in range(len(networks[0]) - 1)
    ]


def _by_network(by_step: list[list]) -> list[list]:
    return [list(one) for one in zip(*by_step, strict=True)]


def _measure(pairs, settings: Settings) -> list[Layer]:
    x, z = [], []
    for source, target in pairs:
        d = source.shape[1]
        x += [source] * target.shape[1] + [source[:, [i]] for i in range(d) for j in range(i)]
        z += [*target.T] + [source[:, j] for i in range(d) for j in range(i)]
    values = iter(np.split(estimate(x, z, settings), _ends(pairs)))
    found = []
    for source, _ in pairs:
        relevance, below = next(values), next(values)
        shared = np.zeros((source.shape[1],) * 2)
        shared[np.tril_indices_from(shared, -1)] = below
        found.append(Layer(relevance, shared + shared.T))
    return found


def _ends(pairs) -> np.ndarray:
    """Where the estimates of relevance and redundancy of each network end."""
    sizes = [(t.shape[1], s.shape[1] * (s.shape[1] - 1) // 2) for s, t in pairs]
    return np.cumsum(np.ravel(sizes))[:-1]


def _tell(pairs, settings: Settings, learn, read, levels: int) -> list[Told]:
    x, z, coded = [], [], []
    for source, target in pairs:
        d, ends = source.shape[1], cut(target, levels)
        prefixes = [source[:, : i + 1] for i in range(d)]
        singles = [source[:, [i]] for i in range(1, d)]  # the first is a prefix already
        for column in ends.T:
            x += prefixes + singles
            z += [column] * (2 * d - 1)
        coded.append(ends)
    values, found, start = estimate(x, z, settings, learn, read), [], 0
    for (source, target), ends in zip(pairs, coded, strict=True):
        d, t = source.shape[1], target.shape[1]
        block = values[start : start + t * (2 * d - 1)].reshape(t, 2 * d - 1).T
        start += t * (2 * d - 1)
        upto = block[:d]
        entropies = np.array([entropy(column[:, None]) for column in ends.T])
        chain = np.diff(upto, axis=0, prepend=0)
        found.append(Told(np.concatenate([block[:1], block[d:]]), chain, upto[-1], entropies))
    return found
