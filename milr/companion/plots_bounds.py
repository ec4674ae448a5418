"""Figures of the chapter on the bounds. They take arrays and give a Figure, as those of `plots`."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from milr.companion.figures import STYLE
from milr.companion.plots import NARROW, colour_scale

DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
INK = "#333333"


def against(
    x: np.ndarray,
    curves: Mapping[str, np.ndarray],
    along: str,
    label: str,
    *,
    levels: Mapping[str, float] | None = None,
    powers_of_two: bool = False,
    height: float = 4.0,
) -> Figure:
    """Curves over `x`, told apart by dashes as well as colours, and level lines for what is true.

    x: (n,); curves: `{name: (n,) values}`; levels: `{name: value}`, drawn across and named beyond
    the right end, where they hide no curve. The axis begins at 0, or below where the values do.
    """
    with plt.style.context(STYLE):
        figure = Figure(figsize=(NARROW, height))
        axes = figure.subplots()
        for index, (name, values) in enumerate(curves.items()):
            axes.plot(x, values, linestyle=DASHES[index % len(DASHES)], label=name)
        for name, value in (levels or {}).items():
            axes.axhline(value, color=INK, linewidth=1, linestyle=(0, (1, 2)))
            axes.annotate(
                *(name, (1, value), (4, 0)),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va="center",
                color=INK,
                fontsize=9,
            )
        if powers_of_two:
            axes.set_xscale("log", base=2)
        axes.update_datalim([(x[-1], 0)])
        axes.autoscale_view()
        axes.set(xlabel=along, ylabel=label)
        axes.grid(axis="y")
        figure.legend(loc="outside upper center", ncols=2)
    return figure


def readings(ks: np.ndarray, read: Mapping[str, np.ndarray], truth: Mapping[str, float]) -> Figure:
    """What an estimator reads as its batch grows, with what is true and where it is saturated.

    ks: (n,); read: `{name: (n,) values}`; truth: `{name: value}`, drawn across. The grey region is
    above 0.8 log K.
    """
    figure = against(
        ks, read, "samples in a batch, K", "nats", levels=truth, powers_of_two=True, height=4.4
    )
    (axes,) = figure.axes
    top = 1.08 * max(truth.values())
    axes.fill_between(ks, 0.8 * np.log(ks), top, color="#E6E6E6", zorder=0)
    axes.plot(ks, np.log(ks), color=INK, linewidth=1)
    axes.annotate("log K", (ks[3], np.log(ks[3])), (-6, 8), textcoords="offset points", ha="right")
    axes.set(ylim=(0, top), xlim=ks[[0, -1]])
    return figure


def paired_bars(names: Sequence[str], pairs: Mapping[str, np.ndarray], label: str) -> Figure:
    """Two bars for each name, with their values written beside them.

    pairs: `{label: (len(names),) values}`.
    """
    height = 0.8 / len(pairs)
    with plt.style.context(STYLE):
        figure = Figure(figsize=(NARROW, 0.9 + 0.5 * len(names)))
        axes = figure.subplots()
        for index, (name, values) in enumerate(pairs.items()):
            place = np.arange(len(names)) - 0.4 + height * (index + 0.5)
            drawn = axes.barh(place, values, 0.92 * height, label=name)
            axes.bar_label(drawn, fmt="%.3f", padding=3, fontsize=8, color=INK)
        axes.set_yticks(np.arange(len(names)), names)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_xlabel(label)
        figure.legend(loc="outside upper center", ncols=2)
    return figure


def signed_and_clamped(
    map_: np.ndarray, flips: np.ndarray, means: Mapping[str, np.ndarray]
) -> Figure:
    """A map with its signs, the same with negative entries set to 0, and the means of both.

    map_: (h, w) in nats; means: `{name: (n,) values}` at each share of flipped symbols in `flips`,
    (n,).
    """
    with plt.style.context(STYLE):
        figure = Figure(figsize=(NARROW, 5.0))
        above, below = figure.subfigures(2, 1, height_ratios=(1, 1.1))
        pair = above.subplots(1, 2)
        scale = colour_scale(np.stack([map_, -map_]))
        for axes, values, title in zip(
            pair,
            (map_, np.maximum(map_, 0)),
            ("as it is", "negative entries set to 0"),
            strict=True,
        ):
            _picture(axes, values, title, scale)
        above.colorbar(scale, ax=list(pair), fraction=0.05, aspect=14).set_label("nats")
        axes = below.subplots()
        for index, (name, values) in enumerate(means.items()):
            axes.plot(flips, values, linestyle=DASHES[index], label=name)
        axes.set(xlabel="share of flipped symbols at the location", ylabel="mean, nats")
        axes.grid(axis="y")
        axes.legend()
    return figure


def _picture(axes: Axes, values: np.ndarray, title: str, scale) -> None:
    axes.imshow(values, norm=scale.norm, cmap=scale.cmap)
    axes.set_title(title)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
