"""Figures of the chapter on the flow of information. They take arrays and give a Figure."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from milr.companion.figures import STYLE
from milr.companion.plots import NARROW, WIDE
from milr.companion.plots_bounds import DASHES, INK

MARKS = ("o", "s", "^", "D", "v", "P")
LOOSE = "#BBBBBB"  # units of no community
# Its lightest quarter would vanish on white.
LINKS = ListedColormap(plt.get_cmap("cividis_r")(np.linspace(0.25, 1, 192)))


def flow_network(
    panels: Mapping[str, Sequence[np.ndarray]],
    groups: Mapping[str, Sequence[set]],
    features: Sequence[str],
    classes: Sequence[str],
    labels: Sequence[str],
) -> Figure:
    """Networks one below the other, features at the left and classes at the right.

    panels: {title: links}, a matrix (units, next units) for each step, nothing below 0; a link is
    as wide and as dark as it is strong, on a scale of its panel. groups: {title: communities}, sets
    of (layer, place), told apart by colour and mark. labels: of the colour bars, with their units.
    Units through which nothing flows are hollow, and named so if there are any.
    """
    widest = max(max(map(len, links)) for links in panels.values())
    with plt.style.context(STYLE):
        figure = Figure(figsize=(WIDE, len(panels) * (1.1 + 0.24 * widest) + 0.4))
        grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for axes, (title, links), label in zip(grid, panels.items(), labels, strict=True):
            scale = ScalarMappable(Normalize(0, max(one.max() for one in links)), LINKS)
            _network(axes, links, groups[title], scale)
            _end_names(axes, links, features, classes)
            axes.set_title(title)
            figure.colorbar(scale, ax=axes, fraction=0.03, pad=0.02).set_label(label)
        marks = [
            Line2D([], [], color=_colour(i), marker=m, linestyle="") for i, m in _kinds(groups)
        ]
        names = [f"community {i + 1}" for i, _ in _kinds(groups)]
        if any(map(empty, panels.values())):
            hollow = {"marker": "o", "linestyle": "", "markerfacecolor": "white"}
            marks.append(Line2D([], [], color=INK, **hollow))
            names.append("nothing flows")
        figure.legend(marks, names, ncols=4, loc="outside lower center")
    return figure


def climbing(curves: Mapping[str, np.ndarray], ceiling: float, name: str) -> Figure:
    """Values (steps,) over the steps of a training, both axes logarithmic, and what is possible."""
    with plt.style.context(STYLE):
        figure = Figure(figsize=(NARROW, 4.0))
        axes = figure.subplots()
        for index, (title, values) in enumerate(curves.items()):
            steps = np.arange(1, len(values) + 1)
            axes.plot(steps, values, linestyle=DASHES[index % len(DASHES)], label=title)
        axes.axhline(ceiling, color=INK, linewidth=1, linestyle=(0, (1, 2)))
        axes.annotate(name, (1, ceiling), (4, 4), textcoords="offset points", color=INK, fontsize=9)
        axes.set(xscale="log", yscale="log", xlabel="step of the training", ylabel="nats")
        axes.set_ylim(bottom=0.05)
        axes.grid(axis="y")
        figure.legend(loc="outside upper center", ncols=2)
    return figure


def beside_exact(panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]) -> Figure:
    """Estimates over exact values in nats: {panel: {kind: (exact, estimated)}}; a diagonal."""
    named = list(dict.fromkeys(kind for kinds in panels.values() for kind in kinds))
    with plt.style.context(STYLE):
        figure = Figure(figsize=(WIDE, 0.9 + WIDE / len(panels)))
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (title, kinds) in zip(grid, panels.items(), strict=True):
            everything = np.concatenate([np.concatenate(pair) for pair in kinds.values()])
            ends = [min(0, everything.min()), everything.max()]
            axes.plot(ends, ends, color=INK, linewidth=1)
            for kind, (true, estimated) in kinds.items():
                own = {"marker": MARKS[named.index(kind)], "color": _colour(named.index(kind))}
                axes.plot(true, estimated, linestyle="", markersize=4, alpha=0.7, **own)
            axes.set(xlabel="exact, nats", title=title)
            axes.grid()
        grid[0].set_ylabel("estimate, nats")
        handles = [
            Line2D([], [], color=_colour(i), marker=MARKS[i], linestyle="")
            for i in range(len(named))
        ]
        figure.legend(handles, named, loc="outside upper center", ncols=4)
    return figure


def bands(
    panels: Mapping[str, Mapping[str, np.ndarray]], x: Mapping[str, np.ndarray], along: str,
    label: str,
) -> Figure:  # fmt: skip
    """Curves with their intervals: {table: {name: (n, 3) value, low, high}} over x[table] (n,).

    A column for each table and a row for each name, so that no band lies on another; the values of
    all others are thin and grey in its panel.
    """
    names = list(next(iter(panels.values())))
    with plt.style.context(STYLE):
        figure = Figure(figsize=(WIDE, 0.7 + 1.45 * len(names)))
        shape = len(names), len(panels)
        grid = figure.subplots(*shape, squeeze=False, sharex="col", sharey=True)
        for column, (title, curves) in zip(grid.T, panels.items(), strict=True):
            for index, (axes, name) in enumerate(zip(column, names, strict=True)):
                for other in curves.values():
                    axes.plot(x[title], other[:, 0], color=LOOSE, linewidth=0.7)
                value, low, high = curves[name].T
                axes.plot(x[title], value, color=_colour(index))
                axes.fill_between(x[title], low, high, color=_colour(index), alpha=0.25, lw=0)
                axes.set_title(f"{title}: {name}")
                axes.grid(axis="y")
            column[-1].set_xlabel(along)
        figure.supylabel(label, fontsize=10)
    return figure


def empty(links: Sequence[np.ndarray]) -> set[tuple[int, int]]:
    """Units (layer, place) that no path of links from a feature to a class passes."""
    reached = [np.ones(len(links[0]), bool)]
    for one in links:
        reached.append((one[reached[-1]] > 0).any(0))
    leads = [np.ones(links[-1].shape[1], bool)]
    for one in links[::-1]:
        leads.insert(0, (one[:, leads[0]] > 0).any(1))
    return {
        (layer, int(i))
        for layer, (a, b) in enumerate(zip(reached, leads, strict=True))
        for i in np.flatnonzero(~(a & b))
    }


def _network(axes: Axes, links: Sequence[np.ndarray], groups, scale: ScalarMappable) -> None:
    widths = [len(links[0]), *(one.shape[1] for one in links)]
    graph = nx.Graph()
    place = {
        (layer, i): (layer, (width - 1) / 2 - i)
        for layer, width in enumerate(widths)
        for i in range(width)
    }
    graph.add_nodes_from(place)
    for layer, one in enumerate(links):
        for i, k in np.ndindex(one.shape):
            if one[i, k] > 0:
                graph.add_edge((layer, i), (layer + 1, k), weight=one[i, k])
    weights = np.array([graph.edges[edge]["weight"] for edge in graph.edges])
    shares = weights / scale.norm.vmax
    nx.draw_networkx_edges(
        graph, place, ax=axes, width=0.5 + 2.2 * shares, edge_color=scale.to_rgba(weights)
    )
    hollow = empty(links)
    for unit, (x, y) in place.items():
        group = next((i for i, one in enumerate(groups) if unit in one), None)
        mark = "o" if group is None else MARKS[group % len(MARKS)]
        colour = LOOSE if group is None else _colour(group)
        filled = "white" if unit in hollow else colour
        edge = INK if unit in hollow else colour
        axes.plot(x, y, mark, markersize=8, color=edge, markerfacecolor=filled, zorder=3)
    axes.set_axis_off()
    axes.margins(x=0.2, y=0.06)


def _end_names(axes: Axes, links, features: Sequence[str], classes: Sequence[str]) -> None:
    for names, x, shift, side in ((features, 0, -8, "right"), (classes, len(links), 8, "left")):
        for i, name in enumerate(names):
            axes.annotate(
                name, (x, (len(names) - 1) / 2 - i), (shift, 0), textcoords="offset points",
                ha=side, va="center", fontsize=8,
            )  # fmt: skip


def _kinds(groups: Mapping[str, Sequence[set]]) -> list[tuple[int, str]]:
    count = max(map(len, groups.values()))
    return [(i, MARKS[i % len(MARKS)]) for i in range(count)]


def _colour(index: int) -> str:
    """Of the style in use now: a name such as "C1" is looked up later, when that is another."""
    palette = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    return palette[index % len(palette)]
