"""Figures of the chapter on estimators. They take arrays, as those of `plots` do."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from milr.companion.figures import STYLE
from milr.companion.plots import WIDE


def error_map(
    values: np.ndarray, names: Sequence[str], methods: Sequence[str], end: float = 1.0
) -> Figure:
    """Errors (methods, tasks) in nats as colours, a row for each task; grey where not tried.

    The scale ends at +-`end`, so that small errors show; what lies beyond is marked by a sign.
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
        axes.set_xticks(range(len(methods)), methods, rotation=55, ha="right")
        figure.colorbar(picture, ax=axes, label="mean error, nats", extend="both", shrink=0.6)
    return figure
