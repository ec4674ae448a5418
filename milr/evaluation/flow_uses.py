"""What the flow of information is used for: attributions of features, and removing units."""

import itertools

import numpy as np

from milr.evaluation.flows import DRAWS, Study, chained, paired, printed
from milr.evaluation.pruning import at_random, magnitudes, one_by_one
from milr.models.tabular import accuracy
from milr.peers import tabular
from milr.peers.nif import flow

PRINTED, PAIRS, CHAIN = "NIF as printed", "NIF, pairs", "NIF, chain rule"
SHAP, GRADIENTS = "SHAP", "integrated gradients"


def attributions(found: Study, told: list[list[flow.Told]], beta: float) -> dict[str, np.ndarray]:
    """What each method gives the features, {method: (networks, d)}; NIF's summed over classes.

    told: for each network, the layers that `flows.tell` gives. NIF by equation 4 of the poster.
    """
    rows, test = found.split, found.split.test
    count = range(len(found.networks))
    links = {
        PRINTED: [printed(found, k, beta) for k in count],
        PAIRS: [paired(one) for one in told],
        CHAIN: [chained(one) for one in told],
    }
    flows = {
        name: np.array([flow.attribution(one).sum(1) for one in each])
        for name, each in links.items()
    }
    peers = {
        SHAP: tabular.shapley,
        GRADIENTS: tabular.integrated_gradients,
    }
    return flows | {
        name: np.array([ask(one, rows, test) for one in found.networks])
        for name, ask in peers.items()
    }


def in_all_orders(found: Study, k: int, beta: float) -> np.ndarray:
    """Attributions as printed with the features in each of their orders, (d!, d).

    A row is of one order; its columns are the features as the table has them. Hidden units keep
    their order.
    """
    first, rest = found.layers[k][0], [flow.printed(one, beta) for one in found.layers[k][1:]]
    orders = itertools.permutations(range(len(first.redundancy)))
    return np.array([
        flow.attribution(flow.carried([flow.printed(first, beta, order), *rest])).sum(1)
        for order in orders
    ])  # fmt: skip


def shared_before(found: Study, k: int) -> np.ndarray:
    """What each feature shares with those before it, (d,) nats: the redundancy of equation 2."""
    return np.tril(found.layers[k][0].redundancy, -1).sum(1)


def removal(found: Study, told: list[list[flow.Told]], beta: float) -> dict[str, np.ndarray]:
    """Points of accuracy lost on the test rows with 0, 1, ... hidden units gone, the least first.

    {order: (networks, units + 1)}; "at random" is the mean over draws.
    """
    kept: dict[str, list] = {}
    for k, network in enumerate(found.networks):

        def points(one) -> float:
            return 100 * accuracy(one, found.split, found.split.test)

        values = {
            PRINTED: flow.through(printed(found, k, beta)),
            PAIRS: flow.through(paired(told[k])),
            CHAIN: flow.through(chained(told[k])),
            "magnitude": magnitudes(network),
        }
        curves = {name: one_by_one(network, one, points) for name, one in values.items()}
        drawn = [_random(found, k, i) for i in range(DRAWS)]
        curves["at random"] = np.mean([one_by_one(network, one, points) for one in drawn], axis=0)
        for name, curve in curves.items():
            kept.setdefault(name, []).append(curve[0] - curve)
    return {name: np.array(curves) for name, curves in kept.items()}


def _random(found: Study, k: int, draw: int) -> list[np.ndarray]:
    widths = found.plan.hidden
    return [one.astype(float) for one in at_random(widths, widths, [found.plan.seed, k, draw])]
