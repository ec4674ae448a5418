"""NIF on tables: what it finds in several networks, and what becomes of them without some units."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, is_dataclass

import numpy as np
import torch
from torch import nn

from milr.cache import cached
from milr.data.images import content_digest
from milr.data.tables import Split, Table, split
from milr.evaluation.pruning import at_random, magnitudes, smallest, without
from milr.models.tabular import accuracy, perceptron, train, units
from milr.peers import nif
from milr.peers.nif import flow
from milr.peers.nif.mine import Settings

TOLERATED = 0.5  # points of accuracy that a choice of beta may cost on the rows learned from
DRAWS = 20  # of units at random, in place of those without flow
# Of all that `once` is asked for.
SOURCES = (
    nif,
    *(f"milr/evaluation/{name}.py" for name in ("flows", "flow_uses", "pruning")),
    *(f"milr/{name}.py" for name in ("data/tables", "models/tabular", "peers/tabular")),
)
_ESTIMATES = {kind.__name__: kind for kind in (flow.Layer, flow.Told)}


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


def once(function: Callable, *arguments) -> tuple[object, float]:
    """What `function(*arguments)` gives, and the seconds that it took, from the cache.

    function: one that is written in `SOURCES`. All its arguments are in the key, arrays and
    networks by their digests. It gives arrays, layers of estimates (`flow.Layer`, `flow.Told`),
    numbers and strings, and lists and dicts of these.
    """

    def make() -> dict:
        start = time.perf_counter()
        found = function(*arguments)
        return {"seconds": time.perf_counter() - start, "found": _packed(found)}

    name = f"{function.__module__}.{function.__qualname__}"
    kept = cached("flow", {"function": name, "arguments": _named(arguments)}, make, sources=SOURCES)
    return _unpacked(kept["found"]), kept["seconds"]


def study(table: Table, plan: Plan) -> tuple[Study, float]:
    """Train the networks and estimate their links, once; also the seconds that both took.

    The networks differ in their seeds alone.
    """
    rows = split(table, plan.seed)
    kept, seconds = once(_trained, rows, plan)
    widths = rows.features.shape[1], *plan.hidden, len(table.classes)
    networks = [_network(widths, weights) for weights in kept["weights"]]
    said = [units(one, rows.features) for one in networks]
    return Study(plan, rows, networks, said, kept["layers"]), seconds


def tell(found: Study) -> tuple[list[list[flow.Told]], float]:
    """The estimates of the corrected forms, once, and the seconds that they took.

    Learned from the training rows, read on the others.
    """
    rows, plan = found.split, found.plan
    return once(flow.tell, found.said, plan.mine, rows.train, rows.test, plan.levels)


def printed(found: Study, k: int, beta: float) -> list[np.ndarray]:
    """Links of network k as the poster prints them (equation 2); those below 0 carry nothing. Nats.

    An array (units, next units) for each step from layer to layer.
    """
    return flow.carried([flow.printed(one, beta) for one in found.layers[k]])


def paired(told: Sequence[flow.Told]) -> list[np.ndarray]:
    """Links of a network between single units, each a share of its end's entropy.

    told: of its steps from layer to layer. An array (units, next units) for each of them.
    """
    return flow.carried([flow.normalised(one.pairs, one.entropy) for one in told])


def chained(told: Sequence[flow.Told]) -> list[np.ndarray]:
    """Links of a network by the chain rule, each a share of its end's entropy.

    As `paired`, with I(X_i; Q | X_1, ..., X_(i-1)) in the place of I(X_i; Q).
    """
    return flow.carried([flow.normalised(one.chain, one.entropy) for one in told])


def without_flow(links: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Places of the hidden units of each layer through which nothing flows.

    links: an array (units, next units) for each step. Gives whole numbers (places,) for each hidden
    layer.
    """
    return [np.flatnonzero(one <= 0) for one in flow.through(links)]


def constant(found: Study, k: int) -> list[np.ndarray]:
    """Places of the hidden units that say the same to every row: they truly tell nothing.

    Whole numbers (places,) for each hidden layer of network k.
    """
    return [np.flatnonzero(np.ptp(one, axis=0) == 0) for one in found.said[k][1:-1]]


def share(places: Sequence[np.ndarray], widths: Sequence[int]) -> float:
    """Units at these places, as a share of all.

    places: whole numbers (places,) for each hidden layer; widths: how many units each of them has.
    """
    return sum(map(len, places)) / sum(widths)


def lost(found: Study, k: int, removed: Sequence[np.ndarray], rows: np.ndarray) -> float:
    """Points of accuracy that network k loses on these rows without these units.

    removed: places (places,) for each hidden layer; rows: (m,), places in the table.
    """
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
    """What is without flow at this beta of equation 2, and what it costs to remove it."""
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

    The poster leaves beta to be tuned and does not say by what; this is the generous way. Costs are
    counted on no row of the test part; the flow is estimated on the features of all rows. The
    smallest beta if none is cheap enough.
    """
    cheap = [one for one in tried if one.learned.mean() <= TOLERATED]
    return max(cheap, key=lambda one: one.beta, default=tried[0])


def reordered(found: Study, k: int, beta: float, draws: int) -> list[list[np.ndarray]]:
    """Units without flow when those of each layer are taken in other, random, orders.

    For each of the draws, places (places,) of each hidden layer. The network computes the same in
    every order of its units; equation 2 does not.
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
    """Mean share of units that two of these choices have in common, of those that either has.

    sets: for each choice, places (places,) of each hidden layer. Pairs in which neither has a unit
    are left out; NaN if there is no other.
    """
    flat = [{(n, int(i)) for n, one in enumerate(places) for i in one} for places in sets]
    pairs = [(a, b) for i, a in enumerate(flat) for b in flat[:i] if a | b]
    return float(np.mean([len(a & b) / len(a | b) for a, b in pairs])) if pairs else np.nan


def _trained(rows: Split, plan: Plan) -> dict:
    networks = [
        train(rows, plan.hidden, plan.seed + k, plan.training) for k in range(plan.networks)
    ]
    layers = flow.measure([units(one, rows.features) for one in networks], plan.mine)
    weights = [[value.numpy() for value in one.parameters()] for one in networks]
    return {"weights": weights, "layers": layers}


def _network(widths: tuple[int, ...], weights: Sequence[np.ndarray]) -> nn.Sequential:
    network = perceptron(widths).requires_grad_(False).eval()
    for own, kept in zip(network.parameters(), weights, strict=True):
        own.copy_(torch.from_numpy(kept))
    return network


def _named(value):
    """As a key has it: arrays and networks by what is in them."""
    if isinstance(value, np.ndarray):
        return content_digest(torch.from_numpy(value))
    if isinstance(value, nn.Module):
        return [str(value), content_digest(*value.state_dict().values())]
    if is_dataclass(value):
        return {name: _named(part) for name, part in vars(value).items()}
    return [_named(one) for one in value] if isinstance(value, list | tuple) else value


def _packed(value):
    """As the cache holds it: an array as a tensor, estimates as their name and their parts."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if type(value) in _ESTIMATES.values():
        return type(value).__name__, _packed(vars(value))
    if isinstance(value, dict):
        return {name: _packed(one) for name, one in value.items()}
    return [_packed(one) for one in value] if isinstance(value, list) else value


def _unpacked(value):
    if isinstance(value, torch.Tensor):
        return value.numpy()
    if isinstance(value, tuple):
        name, parts = value
        return _ESTIMATES[name](**_unpacked(parts))
    if isinstance(value, dict):
        return {name: _unpacked(one) for name, one in value.items()}
    return [_unpacked(one) for one in value] if isinstance(value, list) else value
