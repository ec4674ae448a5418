"""Figure 1 of the paper redrawn: how data flow through a model with the MI-LR module in it."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from milr.companion.figures import STYLE

WIDTH, HEIGHT = 5.0, 7.35  # inches, upright, so that the letters stay readable on a phone
FROZEN, LEARNED, MAP = "#E3E9F0", "#FBDFB5", "#CDEBDD"
INK, QUIET = "#1F2328", "#57606A"
BRIDGE = 0.09  # inches, radius

# name: (x of the middle, y of the middle, width, height, text, ground), in inches, y downwards
BOXES = {
    "image": (0.5, 0.85, 0.72, 0.5, "image", FROZEN),
    "layer1": (1.6, 0.85, 0.82, 0.5, "stem,\nlayer1", FROZEN),
    "layers": (3.25, 0.85, 1.0, 0.5, "layers 2–4,\navgpool", FROZEN),
    "mask": (1.2, 2.65, 1.75, 0.55, "inference network\nlooks at layers 1–4", LEARNED),
    "noise": (
        *(3.7, 2.65, 2.1, 0.55),
        "noise channel\n$x' = \\lambda x + (1-\\lambda)\\,\\varepsilon$",
        FROZEN,
    ),
    "again": (3.7, 3.75, 2.1, 0.5, "layers 2–4, avgpool", FROZEN),
    "objective": (1.2, 3.75, 1.75, 0.5, "the model's objective", FROZEN),
    "critic": (1.85, 4.98, 0.95, 0.4, "critic", LEARNED),
    "total": (3.75, 4.98, 2.1, 0.4, "total $I(x;\\,z)$", MAP),
    "own_critic": (1.85, 5.5, 0.95, 0.4, "own critic", LEARNED),
    "decision": (3.75, 5.5, 2.1, 0.4, "decision $I(x';\\,z)$", MAP),
    "minus": (1.85, 6.02, 0.95, 0.4, "difference", FROZEN),
    "redundant": (3.75, 6.02, 2.1, 0.4, "redundant", MAP),
    "divergence": (1.85, 6.54, 0.95, 0.4, "divergence", FROZEN),
    "capacity": (3.75, 6.54, 2.1, 0.4, "capacity, an upper bound", MAP),
}
# the two points of an arrow and what it carries, written beside its middle
ARROWS = [
    ((0.86, 0.85), (1.19, 0.85), ""),
    ((2.01, 0.85), (2.75, 0.85), "$x$"),
    ((3.75, 0.85), (4.4, 0.85), ""),
    ((1.95, 1.4), (1.95, 2.375), ""),
    ((3.7, 1.9), (3.7, 2.375), ""),
    ((2.075, 2.65), (2.65, 2.65), "$\\lambda$"),
    ((3.7, 2.925), (3.7, 3.5), ""),
    ((2.65, 3.75), (2.075, 3.75), "$z'$"),
    ((1.0, 4.98), (1.375, 4.98), ""),
    ((2.325, 4.98), (2.7, 4.98), ""),
    ((1.0, 5.5), (1.375, 5.5), ""),
    ((2.325, 5.5), (2.7, 5.5), ""),
    ((1.0, 6.02), (1.375, 6.02), ""),
    ((2.325, 6.02), (2.7, 6.02), ""),
    ((1.0, 6.54), (1.375, 6.54), ""),
    ((2.325, 6.54), (2.7, 6.54), ""),
]
HEADINGS = [
    (0.3, "1  Clean first pass"),
    (2.1, "2  Noisy second pass"),
    (4.5, "3  Read out, at every location"),
]
LABELS = [
    (4.55, 0.85, "$z$"),
    (3.82, 3.2, "$x'$"),
    (0.62, 4.98, "$x$ and $z$"),
    (0.62, 5.5, "$x'$ and $z$"),
    (0.58, 6.02, "total,\ndecision"),
    (0.62, 6.54, "$\\lambda$ and $x$"),
]


def diagram() -> Figure:
    """The MI-LR module in a frozen network: two passes, then four maps."""
    with plt.style.context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="none")
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(HEIGHT, 0))
        axes.set_axis_off()
        for y, heading in HEADINGS:
            axes.text(0.14, y, heading, weight="bold", color=INK, va="center", fontsize=9.5)
        for start, end, carried in ARROWS:
            _arrow(axes, start, end, carried)
        for x, y, text in LABELS:
            axes.text(x, y, text, ha="center", va="center", color=INK)
        for box in BOXES.values():
            _box(axes, *box)
        _taps(axes)
        _training(axes)
        _legend(axes)
    return figure


def _box(axes: Axes, x, y, width, height, text, ground) -> None:
    corner = (x - width / 2, y - height / 2)
    axes.add_patch(
        FancyBboxPatch(
            corner,
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.07",
            facecolor=ground,
            edgecolor=QUIET,
            linewidth=0.8,
        )
    )
    axes.text(x, y, text, ha="center", va="center", color=INK, fontsize=9, linespacing=1.25)


def _arrow(axes: Axes, start, end, carried: str, **style) -> None:
    drawn = {"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0, "linewidth": 1.1}
    axes.annotate("", end, start, arrowprops=drawn | style)
    if carried:
        axes.text((start[0] + end[0]) / 2, start[1] - 0.14, carried, ha="center", color=INK)


def _taps(axes: Axes) -> None:
    """What leaves the first pass: every layer's features to the left, x to the noise channel.

    A dot where a wire branches off.
    """
    plain = {"color": INK, "linewidth": 1.1, "solid_capstyle": "butt", "solid_joinstyle": "miter"}
    plain["snap"] = False  # as arrows are drawn, so that a wire and its arrow are one line
    axes.plot([1.6, 1.6, 1.95], [1.1, 1.4, 1.4], **plain)
    axes.plot([3.25, 3.25, 1.95], [1.1, 1.4, 1.4], **plain)
    # The two do not meet where they cross: x goes over the other in a half circle.
    turn = np.linspace(-np.pi / 2, np.pi / 2, 30)
    over = 2.38 + BRIDGE * np.cos(turn), 1.4 + BRIDGE * np.sin(turn)
    across = [2.38, *over[0], 2.38, 3.7, 3.7], [0.85, *over[1], 1.75, 1.75, 1.9]
    axes.plot(*across, **plain)
    axes.plot([2.38, 1.95], [0.85, 1.4], "o", color=INK, markersize=4)


def _training(axes: Axes) -> None:
    _arrow(axes, (1.2, 3.5), (1.2, 2.925), "", linestyle=(0, (3, 2)), color="#B34700")
    text = "its loss + β · capacity\ntrain this network alone"
    axes.text(1.3, 3.22, text, ha="left", va="center", color="#B34700", fontsize=8.5)


def _legend(axes: Axes) -> None:
    kinds = [(0.16, FROZEN, "nothing to learn"), (1.85, LEARNED, "learned"), (3.4, MAP, "map")]
    for x, ground, text in kinds:
        _box(axes, x + 0.13, 7.08, 0.26, 0.2, "", ground)
        axes.text(x + 0.33, 7.08, text, va="center", color=INK, fontsize=9)
