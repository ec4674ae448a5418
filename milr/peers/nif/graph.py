"""The network as a graph whose edges are links of information, and its communities."""

from collections.abc import Sequence

import networkx as nx
import numpy as np

from milr.peers.nif import flow

Unit = tuple[int, int]  # layer, place in it


def graph(links: Sequence[np.ndarray]) -> nx.Graph:
    """All units as nodes (layer, place), and the links above 0 as edges with their `weight`.

    links: a matrix (units, next units) for each step from layer to layer.
    """
    made = nx.Graph()
    widths = [len(links[0]), *(one.shape[1] for one in links)]
    made.add_nodes_from((layer, i) for layer, width in enumerate(widths) for i in range(width))
    for layer, one in enumerate(links):
        for i, k in zip(*np.nonzero(one > 0), strict=True):
            made.add_edge((layer, int(i)), (layer + 1, int(k)), weight=float(one[i, k]))
    return made


def communities(made: nx.Graph) -> list[set[Unit]]:
    """Groups of linked units that make modularity large (greedily), the largest group first.

    Units without a link are of no group.
    """
    linked = made.subgraph([unit for unit, degree in made.degree() if degree])
    if not linked.number_of_edges():
        return []
    found = nx.community.greedy_modularity_communities(linked, weight="weight")
    return [set(one) for one in found]


def modularity(made: nx.Graph) -> float:
    """Of the communities: the share of weight within them, less what chance would put there.

    0 for a graph without links.
    """
    found = communities(made)
    if not found:
        return 0.0
    linked = made.subgraph(set().union(*found))
    return nx.community.modularity(linked, found, weight="weight")


def without_groups(links: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Links in which each unit is as strong as in these, and nothing else: no unit has favourites.

    links: matrices (units, next units), as for `graph`; those below 0 carry nothing. In each step a
    link is what leaves its first unit times what enters its second one, by the sum of the step; 0
    where that is 0. So the sums of rows and columns stay.
    """
    found = []
    for one in flow.carried(links):
        leaves, enters, total = one.sum(1), one.sum(0), one.sum()
        found.append(np.outer(leaves, enters) / total if total else one)
    return found
