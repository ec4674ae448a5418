"""NIF on tables: what it finds in several networks, and what becomes of them without some units."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from milr.data.tables import Split, Table, split
from milr.evaluation.pruning import at_random, magnitudes, smallest, without
from milr.models.tabular import accuracy, train, units
from milr.peers.nif import flow
from milr.peers.nif.mine import Settings

TOLERATED = 0.5  # points of accuracy that a choice of beta may cost on the rows learned from
DRAWS = 20  # of units at random, in place of those without flow


@dataclass(frozen=True)
class Plan:
    """How networks are made, how many, and how their links are estimated.

    betas: those that are tried, from the smallest; levels: of an end, in the corrected form.
    """

    hidden: tuple[int, ...] = (12,)
    networks: int = 5
    seed: int = 0
    training: int = 300
    mine: Settings = field(default_factory=Settings)
    betas: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
    levels: int = 4


@dataclass(frozen=True, eq=False)
class Study:
    """Networks for one split of a table, what their units say, and the poster's estimates.

    said: of each network, the layers (n, units); layers: of each network, what `flow.measure` gives
    for its steps from layer to layer.
    """

    plan: Plan
    split: Split
    networks: list[nn.Sequential]
    said: list[list[np.ndarray]]
    layers: list[list[flow.Layer]]


def study(table: Table, plan: Plan) -> Study:
    """Train the networks and estimate their links. They differ in their seeds alone."""
    rows = split(table, plan.seed)
    networks = [
        train(rows, plan.hidden, plan.seed + k, plan.training) for k in range(plan.networks)
    ]
    said = [units(one, rows.features) for one in networks]
    return Study(plan, rows, networks, said, flow.measure(said, plan.mine))


def printed(found: Study, k: int, beta: float) -> list[np.ndarray]:
    """Links of network k as the poster prints them; those below 0 carry nothing. Nats."""
    return flow.carried([flow.printed(one, beta) for one in found.layers[k]])


def tell(found: Study) -> list[list[flow.Told]]:
    """The estimates of the corrected forms: learned from the training rows, read on the others."""
    rows = found.split
    return flow.tell(found.said, found.plan.mine, rows.train, rows.test, found.plan.levels)


def paired(told: Sequence[flow.Told]) -> list[np.ndarray]:
    """Links of a network between single units, each a share of its end's entropy."""
    return flow.carried([flow.normalised(one.pairs, one.entropy) for one in told])


def chained(told: Sequence[flow.Told]) -> list[np.ndarray]:
    """Links of a network by the chain rule, each a share of its end's entropy."""
    return flow.carried([flow.normalised(one.chain, one.entropy) for one in told])


def without_flow(links: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Places of the hidden units of each layer through which nothing flows."""
    return [np.flatnonzero(one <= 0) for one in flow.through(links)]


def constant(found: Study, k: int) -> list[np.ndarray]:
    """Places of the hidden units that say the same to every row: they truly tell nothing."""
    return [np.flatnonzero(np.ptp(one, axis=0) == 0) for one in found.said[k][1:-1]]


def share(places: Sequence[np.ndarray], widths: Sequence[int]) -> float:
    """Units at these places, as a share of all."""
    return sum(map(len, places)) / sum(widths)


def lost(found: Study, k: int, removed: Sequence[np.ndarray], rows: np.ndarray) -> float:
    """Points of accuracy that network k loses on these rows without these units."""
    before = accuracy(found.networks[k], found.split, rows)
    return 100 * (before - accuracy(without(found.networks[k], removed), found.split, rows))


@dataclass(frozen=True, eq=False)
class Zeros:
    """For one beta, of each network (networks,): units without flow, and the points they cost.

    share, constant: shares of all hidden units, and of those without flow that are constant (NaN
    where there are none); learned, tested: points lost on the rows of the two parts; random,
    magnitude: points lost on the test rows without as many units of each layer chosen that way.
    """

    beta: float
    share: np.ndarray
    constant: np.ndarray
    learned: np.ndarray
    tested: np.ndarray
    random: np.ndarray
    magnitude: np.ndarray


def zeros(found: Study, beta: float) -> Zeros:
    """What is without flow at this beta, and what it costs to remove it."""
    rows, widths = found.split, found.plan.hidden
    kept = []
    for k, network in enumerate(found.networks):
        gone = without_flow(printed(found, k, beta))
        counts, still = [len(one) for one in gone], constant(found, k)
        both = sum(len(np.intersect1d(a, b)) for a, b in zip(gone, still, strict=True))
        drawn = [at_random(widths, counts, [found.plan.seed, k, i]) for i in range(DRAWS)]
        kept.append((
            share(gone, widths),
            both / sum(counts) if sum(counts) else np.nan,
            lost(found, k, gone, rows.train),
            lost(found, k, gone, rows.test),
            np.mean([lost(found, k, one, rows.test) for one in drawn]),
            lost(found, k, smallest(magnitudes(network), counts), rows.test),
        ))  # fmt: skip
    return Zeros(beta, *np.array(kept).T)


def tuned(tried: Sequence[Zeros]) -> Zeros:
    """The one of the largest beta whose pruning costs little on the rows that were learned from.

    The poster leaves beta to be tuned and does not say by what; this is the generous way, which
    looks at no row of the test part. The smallest beta if none is cheap enough.
    """
    cheap = [one for one in tried if one.learned.mean() <= TOLERATED]
    return max(cheap, key=lambda one: one.beta, default=tried[0])


def reordered(found: Study, k: int, beta: float, draws: int) -> list[list[np.ndarray]]:
    """Units without flow when those of each layer are taken in other, random, orders.

    The network computes the same in every order of its units; equation 2 does not.
    """
    random = np.random.default_rng([found.plan.seed, k])
    kept = []
    for _ in range(draws):
        links = []
        for one in found.layers[k]:
            order = random.permutation(len(one.redundancy))
            links.append(flow.printed(one, beta, order))
        kept.append(without_flow(flow.carried(links)))
    return kept


def agreement(sets: Sequence[Sequence[np.ndarray]]) -> float:
    """Mean share of units that two of these choices have in common, of those that either has."""
    flat = [{(n, int(i)) for n, one in enumerate(places) for i in one} for places in sets]
    pairs = [(a, b) for i, a in enumerate(flat) for b in flat[:i] if a | b]
    return float(np.mean([len(a & b) / len(a | b) for a, b in pairs])) if pairs else np.nan
