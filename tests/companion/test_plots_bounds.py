"""What the figures of the bounds chapter show is what they were given."""

import matplotlib
import numpy as np
import pytest

from milr.companion import plots_bounds as plots

matplotlib.use("Agg")


def test_curves_and_levels_keep_their_values_and_differ_in_more_than_colour():
    x = np.array([2, 4, 8])
    figure = plots.against(
        x, {"low": x / 8, "high": x / 4}, "K", "nats", levels={"truth": 1.5}, powers_of_two=True
    )
    (axes,) = figure.axes
    low, high, truth = axes.lines
    assert high.get_ydata().tolist() == [0.5, 1, 2]
    assert low.get_linestyle() != high.get_linestyle()
    assert set(truth.get_ydata()) == {1.5}
    assert axes.texts[0].get_text() == "truth"
    assert axes.get_xscale() == "log"


def test_readings_stand_below_a_ceiling_that_the_grey_region_follows():
    ks = np.array([2, 4, 8, 16])
    read = {"T, read": np.array([0.1, 0.2, 0.3, 0.4])}
    (axes,) = plots.readings(ks, read, {"true T": 3.0}).axes
    first, truth, ceiling = axes.lines
    assert first.get_ydata().tolist() == [0.1, 0.2, 0.3, 0.4]
    assert set(truth.get_ydata()) == {3.0}
    assert ceiling.get_ydata() == pytest.approx(np.log(ks))
    grey = axes.collections[0].get_paths()[0].vertices
    assert grey[:, 1].min() == pytest.approx(0.8 * np.log(2))
    assert axes.get_ylim()[1] > 3


def test_bars_have_the_length_of_their_value():
    figure = plots.paired_bars(["XOR", "AND"], {"joint": [0.7, 0.6], "local": [0.0, 0.4]}, "nats")
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == [0.7, 0.6, 0.0, 0.4]


def test_clamped_map_stands_on_the_scale_of_the_signed_one():
    signed = np.array([[1.0, -2.0], [0.5, 0.0]])
    figure = plots.signed_and_clamped(signed, np.array([0, 0.5]), {"mean": np.array([1, 0.0])})
    left, right = (axes.images[0] for axes in figure.axes[:2])
    assert left.norm.vmin == right.norm.vmin == -2
    assert np.asarray(left.get_array()).min() == -2
    assert np.asarray(right.get_array()).min() == 0
