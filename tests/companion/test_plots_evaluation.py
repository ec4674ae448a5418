"""What the figures of the comparison show is what they were given."""

import matplotlib
import numpy as np
import pytest

from milr.companion import plots_evaluation as plots

matplotlib.use("Agg")

ROWS = np.array([[1.0, 0.5, 1.5], [2.0, 1.0, 3.0], [np.nan] * 3])


def test_dots_lie_at_their_values_and_ours_look_different():
    figure = plots.dots(["a", "b", "c"], {"one": ROWS}, [True, False, False], {"one": [0, 0.5, 1]})
    (axes,) = figure.axes
    ours, others, null = axes.lines
    assert ours.get_xdata().tolist() == [1.0]
    assert others.get_xdata()[0] == 2.0 and np.isnan(others.get_xdata()[1])
    assert ours.get_marker() != others.get_marker()
    assert list(null.get_xdata()) == [0, 0.5, 1]
    segment = axes.collections[1].get_segments()[0]
    assert segment[:, 0].tolist() == [1.0, 3.0]


def test_the_first_method_stands_on_top():
    (axes,) = plots.dots(["a", "b", "c"], {"one": ROWS}, [True, False, False]).axes
    low, high = axes.get_ylim()
    assert high < 0 < 2 < low
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b", "c"]


def test_all_methods_stand_beside_each_other_on_scales_of_their_own():
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8)).astype(np.uint8)
    ones = {f"method {i}": (i + 1) * np.ones((3, 4, 4)) for i in range(4)}
    figure = plots.side_by_side(images, ones)
    assert len(figure.axes) == 3 * (1 + 4)
    overlays = [axes.images[0].get_array() for axes in figure.axes[3:]]
    # The same map up to its unit looks the same.
    assert np.allclose(overlays[0], overlays[3]) and np.allclose(overlays[0], overlays[9])
    assert sorted(t.get_text() for t in figure.texts) == ["image", *ones]
    corners = np.array([axes.get_position().get_points() for axes in figure.axes])
    assert corners.min() > -1e-9 and corners.max() < 1 + 1e-9


def test_removal_curves_keep_their_values_and_share_a_legend():
    curves = {"MI-LR": ([0, 0.5, 1], [0, 2, 3]), "random": ([0, 0.5, 1], [0, 1, 3])}
    figure = plots.removal_curves({"keep": curves, "drop": curves}, "nats", "share")
    assert list(figure.axes[1].lines[1].get_ydata()) == [0, 1, 3]
    assert figure.axes[0].lines[0].get_color() != figure.axes[0].lines[1].get_color()
    assert [text.get_text() for text in figure.legends[0].texts] == ["MI-LR", "random"]


@pytest.mark.parametrize("kind, mark", [("best", "<strong>3.1</strong>"), ("tied", "<u>3.1</u>")])
def test_the_table_marks_the_best_and_what_cannot_be_told_from_it(kind, mark):
    html = plots.table(["lift"], {"MI-LR": [("3.1", kind)], "random": [("1.0", "")]}, "All.")
    assert f"<th scope='row'>MI-LR</th><td>{mark}</td>" in html
    assert "<td>1.0</td>" in html and "overflow-x" in html
