"""Figures of the patent's cases: a map beside its picture, and one picture's maps side by side."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from milr.companion.figures import STYLE
from milr.companion.plots import NARROW, UNITS, WIDE, colour_scale, overlay

LABEL = 0.95  # inches, for the names of the rows
GAP = 0.04
FOOT = 0.62  # inches, for the colour bar


def triptychs(images: np.ndarray, maps: np.ndarray, units: str = UNITS) -> Figure:
    """As the patent text shows its maps: overlay, heat map and original of each image below it.

    images: (n, 3, H, W) uint8; maps: (n, h, w), on one scale
    """
    scale = colour_scale(maps)
    rows = {
        "overlay": [overlay(i, m, scale) for i, m in zip(images, np.asarray(maps), strict=True)],
        "heat map": [scale.to_rgba(m)[..., :3] for m in np.asarray(maps)],
        "original": _upright(images),
    }
    return _rows(rows, scale, units)


def compared(images: np.ndarray, rows: Mapping[str, np.ndarray], units: str = UNITS) -> Figure:
    """`images` (n, 3, H, W), and below them a row of overlays for each named (n, h, w).

    All rows share one scale, so that their colours can be compared.
    """
    scale = colour_scale(np.stack([np.asarray(maps) for maps in rows.values()]))
    pictures = {"image": _upright(images)}
    for name, maps in rows.items():
        pairs = zip(images, np.asarray(maps), strict=True)
        pictures[name] = [overlay(image, values, scale) for image, values in pairs]
    return _rows(pictures, scale, units)


def along(
    steps: Sequence[int], panels: Mapping[str, Mapping[str, np.ndarray]], label: str = "step"
) -> Figure:
    """Numbers at a few steps, evenly spaced: `{label: {name: (steps, 3)}}`, value and interval."""
    place = np.arange(len(steps))
    with plt.style.context(STYLE):
        figure = Figure(figsize=(NARROW, 0.6 + 1.75 * len(panels)))
        grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (name, lines) in zip(grid, panels.items(), strict=True):
            for mark, (line, rows) in zip("os^D", lines.items(), strict=False):
                value, low, high = np.asarray(rows, dtype=float).T
                axes.plot(place, value, mark + "-", markersize=4, label=line)
                axes.fill_between(place, low, high, alpha=0.2)
            axes.axhline(0, color="0.35", linewidth=0.8)
            axes.set_ylabel(name)
            axes.grid(axis="y")
            if len(lines) > 1:
                axes.legend(fontsize=8)
        grid[-1].set_xticks(place, [str(step) for step in steps])
        grid[-1].set_xlabel(label)
    return figure


def _rows(rows: Mapping[str, Sequence[np.ndarray]], scale: ScalarMappable, units: str) -> Figure:
    """Rows of pictures (H, W, 3) with their names at the left; every place given in inches."""
    count = len(next(iter(rows.values())))
    side = (WIDE - LABEL) / count
    height = len(rows) * side + FOOT
    with plt.style.context(STYLE):
        figure = Figure(figsize=(WIDE, height), layout="none")
        for line, (name, pictures) in enumerate(rows.items()):
            bottom = height - (line + 1) * side
            middle = (bottom + side / 2) / height
            text = {"ha": "right", "va": "center", "fontsize": 9}
            figure.text((LABEL - 0.07) / WIDE, middle, textwrap.fill(name, 12), **text)
            for column, picture in enumerate(pictures):
                left = LABEL + column * side
                inner = side - GAP
                axes = figure.add_axes((left / WIDE, bottom / height, inner / WIDE, inner / height))
                axes.imshow(picture)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
        place = (0.3, 0.42 / height, 0.5, 0.13 / height)
        bar = figure.colorbar(scale, cax=figure.add_axes(place), orientation="horizontal")
        bar.set_label(units, labelpad=1)
    return figure


def _upright(images: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.asarray(images), -3, -1)
