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
MARKS = ("o-", "s--", "^-.", "D:")  # of lines, which may lie on each other


def triptychs(
    images: np.ndarray, maps: np.ndarray, units: str = UNITS, alike: np.ndarray | None = None
) -> Figure:
    """As the patent text shows its maps: overlay, heat map and original of each image below it.

    images: (n, 3, H, W) uint8; maps: (n, h, w), on one scale; alike: all maps, of other figures,
    too, whose colours are to mean the same as here (these maps alone if None)
    """
    scale = colour_scale(maps if alike is None else alike)
    rows = {
        "overlay": [overlay(i, m, scale) for i, m in zip(images, np.asarray(maps), strict=True)],
        "heat map": [scale.to_rgba(m)[..., :3] for m in np.asarray(maps)],
        "original": _upright(images),
    }
    return _rows(rows, scale, units)


def compared(
    images: np.ndarray,
    rows: Mapping[str, np.ndarray],
    units: str = UNITS,
    alike: np.ndarray | None = None,
) -> Figure:
    """`images` (n, 3, H, W), and below them a row of overlays for each named (n, h, w).

    All rows share one scale, so that their colours can be compared; `alike` as in `triptychs`.
    """
    scale = colour_scale(np.stack(list(rows.values())) if alike is None else alike)
    pictures = {"image": _upright(images)}
    for name, maps in rows.items():
        pairs = zip(images, np.asarray(maps), strict=True)
        pictures[name] = [overlay(image, values, scale) for image, values in pairs]
    return _rows(pictures, scale, units)


def scale_end(maps: np.ndarray) -> float:
    """Where the scale of these maps ends, for captions of figures whose scales differ."""
    return float(colour_scale(maps).norm.vmax)


def along(
    steps: Sequence[int],
    panels: Mapping[str, Mapping[str, np.ndarray]],
    references: Mapping[str, tuple[float, str]] | None = None,
) -> Figure:
    """Numbers at a few steps: `{label: {name: (steps, 3)}}`, value and interval.

    The first step may be 0. The axis is even up to the next one, and logarithmic from there on.
    references: label of a panel -> a value with its name, drawn as a dashed line
    """
    references = references or {}
    even = min(step for step in steps if step > 0)
    with plt.style.context(STYLE):
        figure = Figure(figsize=(NARROW, 0.6 + 1.6 * len(panels)))
        grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (name, lines) in zip(grid, panels.items(), strict=True):
            for mark, (line, rows) in zip(MARKS, lines.items(), strict=False):
                value, low, high = np.asarray(rows, dtype=float).T
                axes.plot(steps, value, mark, markersize=4, label=line)
                axes.fill_between(steps, low, high, alpha=0.2)
            axes.axhline(0, color="0.35", linewidth=0.8)
            if name in references:
                height, line = references[name]
                axes.axhline(height, color="0.2", linestyle="--", linewidth=1.2, label=line)
            axes.set_ylabel(name)
            axes.grid(axis="y")
            if len(lines) > 1 or name in references:
                axes.legend(fontsize=8)
        grid[-1].set_xscale("symlog", linthresh=even, linscale=0.4)
        grid[-1].set_xlim(-0.2 * even, 1.1 * max(steps))
        grid[-1].set_xticks(steps, [str(step) for step in steps])
        grid[-1].minorticks_off()
        grid[-1].set_xlabel(f"step (even up to {even}, logarithmic from there on)")
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
        beyond = "both" if scale.norm.vmin < 0 else "max"  # a few values lie beyond its ends
        bar = figure.colorbar(
            scale, cax=figure.add_axes(place), orientation="horizontal", extend=beyond
        )
        bar.set_label(units, labelpad=1)
    return figure


def _upright(images: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.asarray(images), -3, -1)
