"""Figures of the chapter on estimators. They take arrays, as those of `plots` do."""

import re
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from milr.companion.figures import STYLE
from milr.companion.plots import WIDE

# The methods as the prose calls them; `milr.estimators` knows them by the names on the left.
METHODS = {
    "infonce": "InfoNCE",
    "infonce-paper": "InfoNCE, paper",
    "infonce-pooled": "InfoNCE, pooled",
    "nwj": "NWJ",
    "mine": "MINE",
    "smile": "SMILE",
    "jsd": "JSD",
    "club": "CLUB",
    "club-full": "CLUB, all",
    "leave-one-out": "leave-one-out",
    "vib": "VIB",
    "ksg": "KSG",
    "gaussian": "Gaussian",
    "none": "none",
}


def task_name(name: str) -> str:
    """A task as the prose calls it: "normal 1x1, 1 nat" for "normal 1x1, 1 nats"."""
    singular = re.sub(r"(?<![\d.])1 (nat|degree)s\b", r"1 \1", name)
    return re.sub(r"(\d)x(\d)", "\\1\N{MULTIPLICATION SIGN}\\2", singular)


def error_map(
    values: np.ndarray, names: Sequence[str], methods: Sequence[str], end: float = 1.0
) -> Figure:
    """Errors (methods, tasks) in nats as colours, a row for each task; grey where not tried.

    methods: names of `METHODS`. The scale ends at +-`end`, so that small errors show; what lies
    beyond is marked by a sign.
    """
    shown = np.ma.masked_invalid(np.asarray(values).T)
    with plt.style.context(STYLE):
        figure = Figure(figsize=(WIDE, 1.6 + 0.19 * len(names)))
        axes = figure.subplots()
        axes.set_facecolor("0.85")
        picture = axes.imshow(shown, cmap="RdBu_r", vmin=-end, vmax=end, aspect="auto")
        for row, column in zip(*np.nonzero(np.abs(shown.filled(0)) > end), strict=True):
            sign = "+" if shown[row, column] > 0 else "\N{MINUS SIGN}"
            axes.text(column, row, sign, ha="center", va="center", color="white", fontsize=9)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        shown_as = [METHODS[method] for method in methods]
        axes.set_xticks(range(len(methods)), shown_as, rotation=55, ha="right")
        figure.colorbar(picture, ax=axes, label="mean error, nats", extend="both", shrink=0.6)
    return figure
