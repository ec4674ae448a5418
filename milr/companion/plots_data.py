"""Figures about data and decisions: they take arrays and give a Figure, as those of `plots`."""

import re
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from milr.companion.figures import STYLE
from milr.companion.plots import NARROW, WIDE, bars, contact_sheet

RIGHT, WRONG = "#009E73", "#D55E00"  # of Okabe and Ito, told apart by colour-blind readers
DARKEST_DIFFERENCE = 96  # steps of 256; larger ones are drawn as dark
FRAME = "#999999"  # of a picture that is as white as the page
# Of the parts in the birds' order: the scene is grey, the bird has the "muted" colours of Paul Tol,
# which colour-blind readers tell apart.
PARTS = ("#EEEEEE", "#AAAAAA", "#CCCCCC", "#332288", "#000000", "#DDCC77", "#117733")
PARTS += ("#CC6677", "#88CCEE", "#882255", "#44AA99", "#AA4499", "#000000", "#999933")


def difference(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How far two images (..., 3, H, W) uint8 differ, as a picture of that shape and type.

    White where they are equal, the darker the more they differ in any channel.
    """
    apart = np.abs(image.astype(int) - other.astype(int)).max(-3, keepdims=True)
    grey = 255 - 255 * np.minimum(apart, DARKEST_DIFFERENCE) // DARKEST_DIFFERENCE
    return np.broadcast_to(grey, image.shape).astype(np.uint8)


def interventions(images: np.ndarray, differences: np.ndarray, captions: Sequence[str]) -> Figure:
    """`images` (n, 3, H, W) with a caption each; below all but the first, its `differences`."""
    count = len(images)
    blank = np.full_like(images[:1], 255)
    pictures = np.concatenate([images, blank, differences[1:]])
    figure = contact_sheet(pictures, [*captions, "", *["difference"] * (count - 1)], count)
    with plt.style.context(STYLE):
        figure.axes[count].set_axis_off()
        figure.axes[count].images[0].remove()
        for axes in figure.axes[count + 1 :]:
            axes.spines[:].set(visible=True, color=FRAME, linewidth=0.8)
    return figure


def part_masks(images: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> Figure:
    """`images` (n, 3, H, W) above their `labels` (n, H, W), which index `names`; each is named.

    The first name is that of the background, which is grey and has no sign.
    """
    colours = np.array([to_rgb(colour) for colour in PARTS])
    with plt.style.context(STYLE):
        figure = Figure(figsize=(WIDE, 2 * WIDE / len(labels)))
        grid = figure.subplots(2, len(labels), squeeze=False)
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        for column, image, label in zip(grid.T, images, labels, strict=True):
            column[0].imshow(np.moveaxis(image, 0, -1))
            column[1].imshow(colours[label])
            _name_parts(column[1], label, names)
    return figure


def _name_parts(axes: Axes, label: np.ndarray, names: Sequence[str]) -> None:
    """The names of the parts at both edges, in the order of their heights, each with a line."""
    size = len(label)
    places = {index: _inside(label == index) for index in range(1, len(names))}
    found = sorted((place[1], place[0], index) for index, place in places.items() if place)
    from_left = sorted(found, key=lambda place: place[1])
    left = set(from_left[: len(found) // 2])
    for side, edge, at in (("left", 0.02, left), ("right", 0.98, set(found) - left)):
        heights = np.linspace(0.06, 0.94, max(len(at), 2))
        for height, (y, x, index) in zip(heights, sorted(at), strict=False):
            axes.annotate(
                names[index], (x, y), (edge * size, height * size), ha=side, va="center",
                fontsize=8, bbox={"fc": "white", "ec": "none", "pad": 1.2, "alpha": 0.85},
                arrowprops={"arrowstyle": "-", "color": "black", "lw": 0.7, "shrinkB": 0},
            )  # fmt: skip


def _inside(mask: np.ndarray) -> tuple[int, int] | None:
    """x and y of the pixel of a part that is nearest to its middle; None where it isn't seen."""
    places = np.argwhere(mask)
    if not len(places):
        return None
    away = ((places - places.mean(0)) ** 2).sum(1)
    y, x = places[away.argmin()]
    return int(x), int(y)


def shares(names: Sequence[str], panels: dict[str, np.ndarray]) -> Figure:
    """Bars side by side, a panel for each label: `{label: (len(names),) per cent}`."""
    with plt.style.context(STYLE):
        figure = Figure(figsize=(NARROW, 0.8 + 0.24 * len(names)))
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for index, (axes, (label, values)) in enumerate(zip(grid, panels.items(), strict=True)):
            axes.barh(np.arange(len(names)), values, color=f"C{index}")
            axes.set_xlabel(label)
            axes.grid(axis="x")
        grid[0].set_yticks(np.arange(len(names)), names)
        grid[0].invert_yaxis()
    return figure


def photographs(
    images: np.ndarray, boxes: np.ndarray, parts: np.ndarray, captions: Sequence[str]
) -> Figure:
    """`images` (n, 3, H, W) in rows of four, with `boxes` (n, 4) and visible `parts` (n, P, 3)."""
    columns = 4
    rows = -(-len(images) // columns)
    with plt.style.context(STYLE):
        figure = Figure(figsize=(WIDE, rows * (WIDE / columns + 0.25)))
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, image, box, points, caption in zip(
            grid.flat, images, boxes, parts, captions, strict=False
        ):
            axes.imshow(np.moveaxis(image, 0, -1))
            x, y, width, height = box
            axes.add_patch(plt.Rectangle((x, y), width, height, fill=False, ec="white", lw=1.4))
            seen = points[points[:, 2] > 0]
            axes.scatter(seen[:, 0], seen[:, 1], s=16, c="C4", ec="black", lw=0.6)
            # Not further, where a box or a point lies outside of the picture.
            axes.set(xlim=(-0.5, image.shape[2] - 0.5), ylim=(image.shape[1] - 0.5, -0.5))
            axes.set_title(_hyphened(caption), fontsize=8, pad=2)
    return figure


def _hyphened(name: str) -> str:
    """A species as birders write it: the folders say "Red faced Cormorant"."""
    return re.sub(r"(\w) (?=[a-z])", r"\1-", name)


def decisions(
    queries: np.ndarray, supports: np.ndarray, probabilities: np.ndarray, right: Sequence[int]
) -> Figure:
    """A row for each query: `queries` (q, 3, H, W), then what it is compared with.

    supports:      (ways, 3, H, W), one of each class
    probabilities: (q, ways), written under each support
    right:         (q,), the class of each query; framed, as is the chosen one where it is wrong
    """
    ways = len(supports)
    side = WIDE / (ways + 1)
    with plt.style.context(STYLE):
        figure = Figure(figsize=(WIDE, len(queries) * (side + 0.2) + 0.2))
        grid = figure.subplots(len(queries), ways + 1, squeeze=False)
        for row, query, shares_of, own in zip(grid, queries, probabilities, right, strict=True):
            _picture(row[0], query, "query", None)
            for way, axes in enumerate(row[1:]):
                wrong = WRONG if way == int(np.argmax(shares_of)) else None
                frame = RIGHT if way == own else wrong
                _picture(axes, supports[way], f"{shares_of[way]:.0%}", frame)
    return figure


def accuracy_bars(names: Sequence[str], intervals: Sequence, chance: Sequence[float]) -> Figure:
    """Accuracies in per cent, an Interval each, with what guessing reaches as a mark."""
    values = np.array([[i.value, i.low, i.high] for i in intervals])
    with plt.style.context(STYLE):
        figure = bars(names, {"network": 100 * values}, "accuracy, %")
        axes = figure.axes[0]
        places = np.arange(len(names))
        axes.scatter(100 * np.asarray(chance), places, 220, "white", "|", lw=3)
        axes.scatter(100 * np.asarray(chance), places, 180, "black", "|", lw=1.5, label="guessing")
        axes.set_xlim(0, 100)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def _picture(axes: Axes, image: np.ndarray, caption: str, frame: str | None) -> None:
    axes.imshow(np.moveaxis(image, 0, -1))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=frame is not None, color=frame, linewidth=4)
    axes.set_xlabel(caption, fontsize=9, labelpad=2)


def pair_table(values: np.ndarray, names: Sequence[str]) -> Figure:
    """Symmetric accuracies (n, n) of telling two classes apart, lower half, in per cent."""
    count = len(names)
    shown = np.where(np.tri(count, k=-1, dtype=bool), 100 * np.asarray(values), np.nan)
    with plt.style.context(STYLE):
        figure = Figure(figsize=(WIDE, 0.62 * WIDE))
        axes = figure.subplots()
        table = axes.imshow(shown[1:, :-1], vmin=50, vmax=100, aspect="auto")
        for row, column in zip(*np.nonzero(~np.isnan(shown)), strict=True):
            value = shown[row, column]
            ink = "white" if value < 75 else "black"
            axes.text(column, row - 1, f"{value:.0f}", ha="center", va="center", color=ink)
        axes.set_yticks(range(count - 1), names[1:])
        axes.set_xticks(range(count - 1), names[:-1], rotation=35, ha="right")
        figure.colorbar(table, ax=axes, label="told apart, %")
    return figure
