"""The figures of the book. They take arrays, know nothing of models, and give a Figure to `save`.

Images are uint8 of shape (..., 3, H, W), maps float of shape (..., h, w) in bits per location and
of any resolution: they are enlarged to the image. Nonnegative maps get a sequential colour scale
from 0, maps with negative values a diverging one centred at 0. All maps of a figure share one
scale, so that their colours can be compared (but see `map_rows`); figures share one if each is
given it as `scale`.
"""

from collections.abc import Mapping, Sequence

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image

from milr.companion.diagram import diagram
from milr.companion.figures import STYLE

__all__ = [
    "bars",
    "colour_scale",
    "contact_sheet",
    "curves",
    "diagram",
    "heat_maps",
    "map_rows",
    "originals",
    "overlay",
    "overlays",
]

UNITS = "bits per location"
WIDE = 7.0  # inches; scrolls sideways on a phone
NARROW = 5.0  # inches; shrinks to a phone's width and stays readable
BRIGHTEST = 0.995  # quantile of |map| at the end of the scale: one hot pixel must not dim the rest


def originals(images: np.ndarray) -> Figure:
    """Episodes as in the paper's figure 2: `images` (episodes, ways, 2, 3, H, W), support first."""
    return _episode_grid(_channels_last(images))


def heat_maps(maps: np.ndarray, units: str = UNITS, scale: ScalarMappable | None = None) -> Figure:
    """Heat maps as in the paper's figure 3: `maps` (episodes, ways, 2, h, w)."""
    scale = scale or colour_scale(maps)
    return _episode_grid(scale.to_rgba(np.asarray(maps))[..., :3], scale, units)


def overlays(
    images: np.ndarray, maps: np.ndarray, units: str = UNITS, scale: ScalarMappable | None = None
) -> Figure:
    """Maps over their images as in the paper's figures 4 to 6; shapes as above."""
    scale = scale or colour_scale(maps)
    images = np.asarray(images)
    blended = np.empty((*images.shape[:3], *images.shape[-2:], 3))
    for place in np.ndindex(images.shape[:3]):
        blended[place] = overlay(images[place], np.asarray(maps)[place], scale)
    return _episode_grid(blended, scale, units)


def overlay(image: np.ndarray, values: np.ndarray, scale: ScalarMappable) -> np.ndarray:
    """One map over one image: (3, H, W) uint8 and (h, w) to (H, W, 3) in [0, 1].

    The image turns grey and pale; colour covers it as far as the map's value is from 0.
    """
    grey = np.asarray(image).mean(0) / 255
    ground = 0.25 + 0.75 * np.repeat(grey[..., None], 3, axis=-1)
    enlarged = _enlarge(np.asarray(values), grey.shape)
    strength = np.clip(np.abs(enlarged) / scale.norm.vmax, 0, 1)[..., None] ** 0.7
    return (1 - 0.9 * strength) * ground + 0.9 * strength * scale.to_rgba(enlarged)[..., :3]


def colour_scale(maps: np.ndarray) -> ScalarMappable:
    """The scale shared by `maps`: sequential from 0, or diverging around 0 if some are negative.

    maps: of any shape, (n, h, w) say. Its bar has pointed ends, since the largest values lie beyond
    them (see `BRIGHTEST`).
    """
    maps = np.asarray(maps)
    end = float(np.quantile(np.abs(maps), BRIGHTEST)) or 1.0
    low, name, beyond = (-end, "RdBu_r", "both") if maps.min() < 0 else (0, "inferno", "max")
    colours = matplotlib.colormaps[name]  # a copy, so this changes no other scale
    colours.colorbar_extend = beyond
    return ScalarMappable(Normalize(low, end), colours)


def map_rows(
    images: np.ndarray,
    rows: Mapping[str, np.ndarray],
    apart: Mapping[str, np.ndarray] | None = None,
    units: str = UNITS,
    scale: ScalarMappable | None = None,
) -> Figure:
    """`images` (n, 3, H, W) in the first row, then a row of overlays for each named (n, h, w).

    `rows` share one scale, the given one or their own, so that a difference of two of them can be
    seen; what is of another size than they are goes to `apart`, where each row has its own scale.
    """
    images, apart = np.asarray(images), apart or {}
    lines = len(rows) + len(apart) + 1
    scale = scale or colour_scale(np.stack([np.asarray(maps) for maps in rows.values()]))
    scales = [scale] * len(rows) + [colour_scale(maps) for maps in apart.values()]
    with plt.style.context(STYLE):
        figure = Figure(figsize=(WIDE, WIDE / (len(images) + 0.9) * lines * 1.08))
        grid = figure.subplots(lines, len(images), squeeze=False)
        for axes, image in zip(grid[0], _channels_last(images), strict=True):
            axes.imshow(image)
        grid[0, 0].set_ylabel("image")
        named = (*rows.items(), *apart.items())
        for line, (name, maps), own in zip(grid[1:], named, scales, strict=True):
            for axes, image, values in zip(line, images, np.asarray(maps), strict=True):
                axes.imshow(overlay(image, values, own))
            line[0].set_ylabel(name)
        _bar_beside(figure, scale, grid[1 : len(rows) + 1], units)
        for line, own in zip(grid[len(rows) + 1 :], scales[len(rows) :], strict=True):
            _bar_beside(figure, own, line, units)
        _bare(grid)
    return figure


def contact_sheet(images: np.ndarray, captions: Sequence[str], columns: int = 5) -> Figure:
    """`images` (n, 3, H, W), or label maps already in colour, with a short line under each."""
    rows = -(-len(images) // columns)
    with plt.style.context(STYLE):
        figure = Figure(figsize=(WIDE, rows * (WIDE / columns + 0.22)))
        grid = figure.subplots(rows, columns, squeeze=False)
        _bare(grid)
        for axes in grid.flat[len(images) :]:
            axes.set_axis_off()
        for axes, image, caption in zip(grid.flat, _channels_last(images), captions, strict=False):
            axes.imshow(image)
            axes.set_xlabel(caption, fontsize=9, labelpad=2)
    return figure


def curves(panels: Mapping[str, Mapping[str, tuple]], along: str = "step") -> Figure:
    """Curves over `along`, a panel for each label: `{label with unit: {name: (steps, values)}}`."""
    dashes = ["-", "--", "-.", ":"]
    with plt.style.context(STYLE):
        figure = Figure(figsize=(NARROW, 0.5 + 1.9 * len(panels)))
        grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (label, lines) in zip(grid, panels.items(), strict=True):
            for index, (name, (steps, values)) in enumerate(lines.items()):
                axes.plot(steps, values, dashes[index % len(dashes)], label=name)
            axes.set_ylabel(label)
            axes.grid(axis="y")
            if len(lines) > 1:
                axes.legend()
        grid[-1].set_xlabel(along)
    return figure


def bars(
    names: Sequence[str],
    groups: Mapping[str, np.ndarray],
    label: str,
    reference: tuple[float, str] | None = None,
    most: float | None = None,
) -> Figure:
    """Horizontal bars with intervals: each group is (len(names), 3): mean, lower and upper end.

    `reference` is a value with its name, drawn as a line that the bars are to be held against.
    `most` is the largest value that there can be (1 of a share): there the axis ends.
    """
    height = 0.8 / len(groups)
    with plt.style.context(STYLE):
        figure = Figure(figsize=(NARROW, 0.9 + 0.3 * len(names) * max(1, 0.6 * len(groups))))
        axes = figure.subplots()
        for index, (group, values) in enumerate(groups.items()):
            mean, lower, upper = np.asarray(values, dtype=float).T
            place = np.arange(len(names)) - 0.4 + height * (index + 0.5)
            ends = np.stack([mean - lower, upper - mean])
            axes.barh(place, mean, height, xerr=ends, label=group, ecolor="0.2", capsize=2)
        axes.set_yticks(np.arange(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlabel(label)
        axes.axvline(0, color="0.35", linewidth=0.8)
        if reference:
            axes.axvline(reference[0], color="0.2", linestyle=":", label=reference[1])
        if most is not None:
            axes.set_xlim(right=most)
        if len(groups) > 1 or reference:
            figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def _episode_grid(
    pictures: np.ndarray, scale: ScalarMappable | None = None, units: str = ""
) -> Figure:
    """Pictures (episodes, ways, 2, H, W, 3) side by side; every place given in inches."""
    episodes, ways = pictures.shape[:2]
    gap, between, head, foot = 0.04, 0.22, 0.45, 0.62 if scale else 0.02
    side = (WIDE - (episodes - 1) * between - 0.04) / (2 * episodes) - gap
    side = min(side, 1.4)
    width = episodes * 2 * (side + gap) + (episodes - 1) * between + 0.04
    height = head + ways * (side + gap) + foot
    with plt.style.context(STYLE):
        figure = Figure(figsize=(width, height), layout="none")
        for episode, way, column in np.ndindex(pictures.shape[:3]):
            left = 0.02 + (2 * episode + column) * (side + gap) + episode * between
            bottom = height - head - (way + 1) * (side + gap) + gap
            axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
            axes.imshow(pictures[episode, way, column])
            _bare(axes)
            if way == 0:
                axes.set_title(("support", "query")[column], pad=3, fontsize=9)
                if column == 0:
                    middle = (left + side + gap / 2) / width
                    figure.text(middle, 1 - 0.17 / height, f"({'abcdefgh'[episode]})", ha="center")
        if scale:
            place = (0.25, 0.42 / height, 0.5, 0.13 / height)
            bar = figure.colorbar(scale, cax=figure.add_axes(place), orientation="horizontal")
            bar.set_label(units, labelpad=1)
    return figure


def _bar_beside(figure: Figure, scale: ScalarMappable, grid: np.ndarray, units: str) -> None:
    """One colour bar, of one width, at the right of one or several lines of axes."""
    lines = np.atleast_2d(grid)
    bar = figure.colorbar(
        scale, ax=list(lines.flat), fraction=0.05, aspect=12 * len(lines), shrink=0.94
    )
    bar.set_label(units, size=8)


def _bare(grid) -> None:
    """No ticks and no frame: what is shown are pictures."""
    for axes in np.ravel(grid):
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)


def _channels_last(images: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.asarray(images), -3, -1)


def _enlarge(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    small = Image.fromarray(values.astype(np.float32))
    resized = np.asarray(small.resize(shape[::-1], Image.Resampling.BICUBIC))
    # Bicubic overshoots beside a peak, and would show signs that the map does not have.
    return np.clip(resized, values.min(), values.max())
