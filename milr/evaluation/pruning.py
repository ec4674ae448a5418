"""What a small network loses when hidden units are removed, and orders to remove them in."""

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from milr.models.tabular import linear_layers

Units = Sequence[np.ndarray]  # for each hidden layer, places of units or a number for each


@torch.no_grad()
def without(network: nn.Sequential, removed: Units) -> nn.Sequential:
    """A copy in which all weights and biases of these hidden units are 0; places, layer by layer.

    Raises ValueError if there are not as many layers of places as the network has hidden ones.
    """
    layers = linear_layers(network)
    if len(removed) != len(layers) - 1:
        raise ValueError(
            f"units of {len(removed)} layers are to go, and the network has {len(layers) - 1} "
            "hidden ones; give places for each, and an empty list for none"
        )
    pruned = copy.deepcopy(network)
    own = linear_layers(pruned)
    for layer, after, places in zip(own, own[1:], removed, strict=False):
        for tensor in (layer.weight, layer.bias, after.weight.T):
            tensor[np.asarray(places, int)] = 0
    return pruned


def magnitudes(network: nn.Sequential) -> list[np.ndarray]:
    """Of each hidden unit, the norm of its weights in times that of its weights out.

    An array (units,) for each hidden layer.
    """
    layers = linear_layers(network)
    return [
        (one.weight.norm(dim=1) * other.weight.norm(dim=0)).numpy()
        for one, other in zip(layers, layers[1:], strict=False)
    ]


def smallest(values: Units, counts: Sequence[int]) -> list[np.ndarray]:
    """Places of as many units of each layer as `counts` says, of the smallest values.

    values: (units,) of each hidden layer. Gives places (count,) of each.
    """
    return [
        np.argsort(one, kind="stable")[:count] for one, count in zip(values, counts, strict=True)
    ]


def at_random(widths: Sequence[int], counts: Sequence[int], seed) -> list[np.ndarray]:
    """Places of as many units of each layer, drawn by the seed.

    widths, counts: of each hidden layer, how many units it has, and how many are taken. Gives
    places (count,) of each.
    """
    random = np.random.default_rng(seed)
    return [random.permutation(w)[:count] for w, count in zip(widths, counts, strict=True)]


def one_by_one(
    network: nn.Sequential, values: Units, score: Callable[[nn.Sequential], float]
) -> np.ndarray:
    """Scores with 0, 1, ..., all hidden units gone, those of the smallest values first.

    values: (units,) of each hidden layer. Of several layers, units are compared by their rank
    within their own layer. Gives (all units + 1,).
    """
    widths = [len(one) for one in values]
    ranks = [np.argsort(np.argsort(one, kind="stable")) / len(one) for one in values]
    layer = np.repeat(np.arange(len(widths)), widths)
    place = np.concatenate([np.arange(width) for width in widths])
    order = np.argsort(np.concatenate(ranks), kind="stable")
    found = []
    for count in range(len(order) + 1):
        gone = order[:count]
        removed = [place[gone[layer[gone] == one]] for one in range(len(widths))]
        found.append(score(without(network, removed)))
    return np.array(found)
