"""Figures and tables of the chapters that compare methods. They take arrays and numbers."""

import csv
import io
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from urllib.parse import quote

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from milr.companion.figures import STYLE
from milr.companion.plots import WIDE, colour_scale, overlay

OWN, OTHER, NULL = "#D55E00", "#0072B2", "0.45"
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "D", "s", "^", "v", "P", "X", "*")
KEYS = {"inferno": ((0, 1), ("0", "most")), "RdBu_r": ((0, 0.5, 1), ("−", "0", "+"))}


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

    maps: name -> (n, h, w); each picture of a method has a scale of its own, as units differ and
    one image may dwarf the others. A method with negative values is red and blue on all of them.
    """
    images = np.asarray(images)
    count, lines = len(images), -(-(len(maps) + 1) // blocks)
    label, foot = 1.0, 0.4
    side = (WIDE / blocks - label) / count
    height = lines * side + foot
    unit = (WIDE, height, WIDE, height)
    used = {}
    with plt.style.context(STYLE):
        figure = Figure(figsize=(WIDE, height), layout="none")
        for index, (name, values) in enumerate([("image", None), *maps.items()]):
            block, line = divmod(index, lines)
            left, top = block * WIDE / blocks + label, height - line * side
            middle = (top - side / 2) / height
            where = {"ha": "right", "va": "center", "fontsize": 7}
            text = textwrap.fill(name, 14, break_long_words=False, break_on_hyphens=False)
            figure.text((left - 0.06) / WIDE, middle, text, **where)
            shown = np.moveaxis(images, 1, -1)
            if values is not None:
                values = np.asarray(values)
                scales = _scales(values)
                used |= {scale.get_cmap().name: scale for scale in scales}
                shown = [overlay(*three) for three in zip(images, values, scales, strict=True)]
            for column, picture in enumerate(shown):
                box = (left + column * side, top - side, side * 0.96, side * 0.96)
                axes = figure.add_axes([a / b for a, b in zip(box, unit, strict=True)])
                axes.imshow(picture)
                axes.set_axis_off()
        _keys(figure, used, height)
    return figure


def _scales(maps: np.ndarray) -> list:
    """A colour scale for each map (n, h, w); all from 0, or all around 0 if any is negative."""
    both = (1, -1) if maps.min() < 0 else (1,)
    return [colour_scale(np.stack([sign * one for sign in both])) for one in maps]


def _keys(figure: Figure, used: Mapping, height: float) -> None:
    """Small colour bars at the foot, without numbers: each picture has numbers of its own."""
    for index, (name, scale) in enumerate(sorted(used.items())):
        places, words = KEYS[name]
        box = (1.0 + 1.8 * index) / WIDE, 0.2 / height, 1.4 / WIDE, 0.1 / height
        bar = figure.colorbar(scale, cax=figure.add_axes(box), orientation="horizontal")
        low, high = scale.get_clim()
        bar.set_ticks([low + place * (high - low) for place in places], labels=words)
        bar.ax.tick_params(labelsize=7, length=2, pad=1)


def removal_curves(panels: Mapping[str, Mapping[str, tuple]], label: str, along: str) -> Figure:
    """Panels two in a row, {title: {name: (shares, values)}}, with one legend above them all.

    values: (S, 3), value, lower and upper end; what is between them is shaded. Each name has a
    colour, mark and dash of its own, and "random" is grey.
    """
    lines = -(-len(panels) // 2)
    with plt.style.context(STYLE):
        colours = plt.rcParams["axes.prop_cycle"].by_key()["color"]
        figure = Figure(figsize=(WIDE, 0.9 + 2.3 * lines))
        grid = figure.subplots(lines, 2, sharex=True, sharey="row", squeeze=False)
        for axes, (title, curves) in zip(grid.flat, panels.items(), strict=False):
            for index, (name, (shares, values)) in enumerate(curves.items()):
                colour = NULL if name == "random" else colours[index % len(colours)]
                mark, dash = (of[index % len(of)] for of in (MARKERS, DASHES))
                line = {"color": colour, "marker": mark, "markersize": 3.5, "label": name}
                value, low, high = np.asarray(values, dtype=float).T
                axes.fill_between(shares, low, high, color=colour, alpha=0.08, linewidth=0)
                axes.plot(shares, value, dash, **line)
            axes.set_title(title)
            axes.grid(axis="y")
        for axes in grid[-1]:
            axes.set_xlabel(along)
        for axes in grid[:, 0]:
            axes.set_ylabel(label)
        handles, names = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=4, fontsize=8)
    return figure


def against(
    panels: Mapping[str, np.ndarray], own: Mapping[str, Sequence[bool]], sides: Sequence[str]
) -> Figure:
    """A panel for each measure, a mark for each method: on one data set against on another.

    panels: label -> (2, n, 3), value, lower and upper end on each of the two `sides`; own: label ->
    which of the n are the method that the others are held against (another colour and mark).
    """
    with plt.style.context(STYLE):
        figure = Figure(figsize=(WIDE, 0.4 + 2.6 * -(-len(panels) // 3)))
        grid = figure.subplots(-(-len(panels) // 3), 3, squeeze=False)
        for axes, (label, values) in zip(grid.flat, panels.items(), strict=False):
            mine = np.asarray(own[label])
            (x, left, right), (y, low, high) = np.moveaxis(np.asarray(values, dtype=float), 2, 1)
            for chosen, colour, mark in ((~mine, OTHER, "o"), (mine, OWN, "D")):
                axes.hlines(y[chosen], left[chosen], right[chosen], color=colour, alpha=0.25)
                axes.vlines(x[chosen], low[chosen], high[chosen], color=colour, alpha=0.25)
                axes.plot(x[chosen], y[chosen], mark, color=colour, markersize=4)
            axes.set_title(label, fontsize=9)
            axes.grid()
            axes.tick_params(labelsize=8)
            axes.locator_params(nbins=4)
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        figure.supxlabel(sides[0], fontsize=9)
        figure.supylabel(sides[1], fontsize=9)
    return figure


# The first column stays in sight while the others scroll by.
_STYLE = """<style>
.milr-measured table.dataframe { border-collapse: separate; border-spacing: 0; font-size: 0.75rem; }
.milr-measured caption { caption-side: top; text-align: left; }
.milr-measured table.dataframe :is(th, td) { padding: 0.3em 0.7em; vertical-align: top; }
.milr-measured table.dataframe th:first-child { background-color: inherit; left: 0;
  min-width: 8.5em; position: sticky; text-align: left; z-index: 1; }
.milr-measured table.dataframe thead th:first-child { background-color: var(--pst-color-surface); }
</style>"""


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
        f"{_STYLE}<div class='milr-measured' style='overflow-x: auto'><table class='dataframe'>"
        f"<caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        "</div>"
    )


def download(name: str, heads: Sequence[str], rows: Iterable[Sequence], text: str) -> str:
    """HTML: a link that holds a CSV file of these rows; `text` is what the link says."""
    made = io.StringIO()
    csv.writer(made, lineterminator="\n").writerows([heads, *rows])
    held = quote(made.getvalue(), safe=",.-")
    return f"<p><a download='{name}.csv' href='data:text/csv;charset=utf-8,{held}'>{text}</a></p>"
