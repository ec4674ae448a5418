"""Figures and the table of the chapter that compares methods. They take arrays and numbers."""

import textwrap
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from milr.companion.figures import STYLE
from milr.companion.plots import WIDE, colour_scale, overlay

OWN, OTHER, NULL = "#D55E00", "#0072B2", "0.45"
DASHES = ("-", "--", "-.", ":")


def dots(
    names: Sequence[str],
    panels: Mapping[str, np.ndarray],
    own: Sequence[bool],
    nulls: Mapping[str, np.ndarray] | None = None,
) -> Figure:
    """A row for each method, a panel for each measure: value, and interval as a line.

    panels: label -> (len(names), 3), value, lower and upper end; NaN where there is none. own:
    which names are the method that the others are held against (another colour and mark). nulls:
    label -> (len(names),), drawn as a small upright line in the same panel.
    """
    place = np.arange(len(names))
    own = np.asarray(own)
    with plt.style.context(STYLE):
        figure = Figure(figsize=(WIDE, 0.9 + 0.2 * len(names)))
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (label, rows) in zip(grid, panels.items(), strict=True):
            value, low, high = np.asarray(rows, dtype=float).T
            for chosen, colour, mark in ((own, OWN, "D"), (~own, OTHER, "o")):
                axes.hlines(place[chosen], low[chosen], high[chosen], color=colour, linewidth=1.4)
                axes.plot(value[chosen], place[chosen], mark, color=colour, markersize=4)
            if nulls:
                axes.plot(nulls[label], place, "|", color=NULL, markersize=8, markeredgewidth=1.6)
            axes.set_xlabel(textwrap.fill(label, 60 // len(panels)), fontsize=9)
            axes.grid(axis="x")
            axes.tick_params(axis="x", labelsize=8)
            axes.locator_params(axis="x", nbins=5 if len(panels) < 4 else 2)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        grid[0].set_yticks(place, names, fontsize=8)
        grid[0].set_ylim(len(names) - 0.4, -0.6)
        for text, chosen in zip(grid[0].get_yticklabels(), own, strict=True):
            text.set_color(OWN if chosen else "black")
    return figure


def side_by_side(images: np.ndarray, maps: Mapping[str, np.ndarray], blocks: int = 2) -> Figure:
    """All methods on the same few images (n, 3, H, W): `blocks` columns of rows of overlays.

    maps: name -> (n, h, w); each method has a scale of its own, as their units differ.
    """
    images = np.asarray(images)
    count, lines = len(images), -(-(len(maps) + 1) // blocks)
    rows = [("image", None), *maps.items()]
    label, side = 0.95, (WIDE / blocks - 0.95) / count
    height = lines * side + 0.02
    with plt.style.context(STYLE):
        figure = Figure(figsize=(WIDE, height), layout="none")
        for index, (name, values) in enumerate(rows):
            block, line = divmod(index, lines)
            left, top = block * WIDE / blocks, height - line * side
            middle = (top - side / 2) / height
            where = {"ha": "right", "va": "center", "fontsize": 7.5}
            figure.text((left + label - 0.06) / WIDE, middle, textwrap.fill(name, 15), **where)
            scale = None if values is None else colour_scale(values)
            for column, image in enumerate(images):
                box = (left + label + column * side, top - side, side * 0.96, side * 0.96)
                unit = (WIDE, height, WIDE, height)
                axes = figure.add_axes([a / b for a, b in zip(box, unit, strict=True)])
                shown = (
                    np.moveaxis(image, 0, -1)
                    if scale is None
                    else overlay(image, np.asarray(values)[column], scale)
                )
                axes.imshow(shown)
                axes.set_axis_off()
    return figure


def removal_curves(panels: Mapping[str, Mapping[str, tuple]], label: str, along: str) -> Figure:
    """Panels two in a row, {title: {name: (shares, values)}}, with one legend above them all."""
    lines = -(-len(panels) // 2)
    with plt.style.context(STYLE):
        figure = Figure(figsize=(WIDE, 0.9 + 2.3 * lines))
        grid = figure.subplots(lines, 2, sharex=True, sharey="row", squeeze=False)
        for axes, (title, curves) in zip(grid.flat, panels.items(), strict=False):
            for index, (name, (shares, values)) in enumerate(curves.items()):
                style = DASHES[index // 7 % len(DASHES)]
                axes.plot(shares, values, style, marker="o", markersize=2.5, label=name)
            axes.set_title(title)
            axes.grid(axis="y")
        for axes in grid[-1]:
            axes.set_xlabel(along)
        for axes in grid[:, 0]:
            axes.set_ylabel(label)
        handles, names = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=4, fontsize=8)
    return figure


def table(
    columns: Sequence[str], rows: Mapping[str, Sequence[tuple[str, str]]], caption: str
) -> str:
    """HTML: a row for each name, cells as (text, kind); kinds: "best", "tied" or "".

    The best of a column is bold, what cannot be told from it underlined; wide tables scroll.
    """
    marks: dict[str, Callable[[str], str]] = {
        "best": lambda text: f"<strong>{text}</strong>",
        "tied": lambda text: f"<u>{text}</u>",
        "": lambda text: text,
    }
    head = "".join(f"<th scope='col'>{name}</th>" for name in ("method", *columns))
    body = "".join(
        f"<tr><th scope='row'>{name}</th>"
        + "".join(f"<td>{marks[kind](text)}</td>" for text, kind in cells)
        + "</tr>"
        for name, cells in rows.items()
    )
    return (
        "<div style='overflow-x: auto'><table class='dataframe' style='font-size: 0.75rem'>"
        f"<caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        "</div>"
    )
