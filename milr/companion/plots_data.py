"""Figures about data and decisions: they take arrays and give a Figure, as those of `plots`."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from milr.companion.figures import STYLE
from milr.companion.plots import NARROW, WIDE, bars

RIGHT, WRONG = "#009E73", "#D55E00"  # of Okabe and Ito, told apart by colour-blind readers
DARKEST_DIFFERENCE = 96  # steps of 256; larger ones are drawn as dark


def difference(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How far two images (..., 3, H, W) uint8 differ, as a picture of that shape and type.

    White where they are equal, the darker the more they differ in any channel.
    """
    apart = np.abs(image.astype(int) - other.astype(int)).max(-3, keepdims=True)
    grey = 255 - 255 * np.minimum(apart, DARKEST_DIFFERENCE) // DARKEST_DIFFERENCE
    return np.broadcast_to(grey, image.shape).astype(np.uint8)


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
            axes.set_title(caption, fontsize=8, pad=2)
    return figure


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
