"""Figures of the chapter on MIP-IN: signals of digits, and what each layer reconstructs."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from milr.companion.figures import STYLE
from milr.companion.plots import WIDE, colour_scale
from milr.companion.plots_evaluation import OTHER, OWN

LABEL, BAR, GAP = 1.0, 0.75, 0.05  # inches: names at the left, colour bars at the right


def signal_rows(groups: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Rows of pictures: {unit: {name of the row: (n, h, w)}}; rows of a group share a scale.

    Groups with negative values have a diverging scale around 0, others one from 0.
    """
    rows = [(unit, name, maps) for unit, group in groups.items() for name, maps in group.items()]
    count = len(rows[0][2])
    side = (WIDE - LABEL - BAR) / count
    height = len(rows) * side
    scales = {unit: _scale(np.stack(list(group.values()))) for unit, group in groups.items()}
    with plt.style.context(STYLE):
        figure = Figure(figsize=(WIDE, height), layout="none")
        for line, (unit, name, maps) in enumerate(rows):
            bottom = height - (line + 1) * side
            text = {"ha": "right", "va": "center", "fontsize": 8.5}
            middle = (bottom + side / 2) / height
            figure.text((LABEL - 0.07) / WIDE, middle, textwrap.fill(name, 13), **text)
            for column, values in enumerate(maps):
                place = (LABEL + column * side, bottom, side - GAP, side - GAP)
                axes = figure.add_axes(_shares(place, height))
                axes.imshow(scales[unit].to_rgba(values)[..., :3], interpolation="nearest")
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
        _bars(figure, groups, scales, side, height)
    return figure


def ladder(panels: Mapping[str, tuple[Sequence[str], Mapping[str, np.ndarray]]]) -> Figure:
    """Share of the variance that each layer reconstructs, from the prediction down.

    panels: title -> (names of the layers, the lowest first; {line: (layers, 3)}, value and
    interval); at most two lines. Shares below -0.25 are drawn there.
    """
    labels = dict.fromkeys(label for _, lines in panels.values() for label in lines)
    looks = dict(zip(labels, zip(("o-", "s-"), (OTHER, OWN), strict=True), strict=False))
    with plt.style.context(STYLE):
        figure = Figure(figsize=(WIDE, 2.9))
        widths = [2 + len(names) for names, _ in panels.values()]
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False, width_ratios=widths)[0]
        for axes, (title, (names, lines)) in zip(grid, panels.items(), strict=True):
            place = np.arange(len(names))
            for label, rows in lines.items():
                mark, colour = looks[label]
                rows = np.asarray(rows, dtype=float)[::-1].clip(-0.25, 1)
                ends = np.abs(rows[:, 1:] - rows[:, :1]).T
                axes.errorbar(
                    place, rows[:, 0], ends, fmt=mark, color=colour, markersize=4, label=label
                )
            axes.axhline(0, color="0.35", linewidth=0.8)
            axes.set_xticks(place, names[::-1], rotation=60, ha="right", fontsize=7.5)
            axes.set_xlim(-0.5, len(names) - 0.5)
            axes.set_title(title)
            axes.grid(axis="y")
        grid[0].set_ylabel("share of the variance")
        grid[0].legend(fontsize=8)
        figure.supxlabel("layer that is inverted, from the prediction down", fontsize=9)
    return figure


def _bars(figure: Figure, groups, scales, side: float, height: float) -> None:
    """A colour bar beside each group of rows."""
    done = 0
    for unit, group in groups.items():
        bottom = height - (done + len(group)) * side
        length = len(group) * side - 0.3
        place = (WIDE - BAR + 0.04, bottom + 0.2, 0.1, length)
        bar = figure.colorbar(scales[unit], cax=figure.add_axes(_shares(place, height)))
        bar.set_label(unit, size=8)
        bar.ax.tick_params(labelsize=7)
        done += len(group)


def _scale(maps: np.ndarray) -> ScalarMappable:
    """As for all maps of the book, but ink on paper where there is no negative value."""
    scale = colour_scale(maps)
    if maps.min() >= 0:
        return ScalarMappable(Normalize(0, scale.norm.vmax), "gray_r")
    return scale


def _shares(place: tuple[float, ...], height: float) -> tuple[float, ...]:
    """A place in inches as shares of the figure."""
    return tuple(a / b for a, b in zip(place, (WIDE, height, WIDE, height), strict=True))
