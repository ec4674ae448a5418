"""What the figures of the comparison show is what they were given."""

import csv
import io
import re
from urllib.parse import unquote

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

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


def test_methods_on_two_data_sets_lie_at_their_values_on_both():
    values = np.array([[[1.0, 0.5, 2.0], [3, 3, 3]], [[10.0, 9.0, 11.0], [30, 30, 30]]])
    figure = plots.against({"keep": values}, {"keep": [True, False]}, ["drawn", "photographed"])
    (axes,) = figure.axes
    others, ours = axes.lines
    assert (ours.get_xdata().tolist(), ours.get_ydata().tolist()) == ([1.0], [10.0])
    assert (others.get_xdata().tolist(), others.get_ydata().tolist()) == ([3.0], [30.0])
    assert ours.get_marker() != others.get_marker()
    across, upwards = (axes.collections[2 + k].get_segments()[0] for k in (0, 1))
    assert across.tolist() == [[0.5, 10.0], [2.0, 10.0]]
    assert upwards.tolist() == [[1.0, 9.0], [1.0, 11.0]]
    assert figure.get_supxlabel() == "drawn" and figure.get_supylabel() == "photographed"


def test_the_first_method_stands_on_top():
    (axes,) = plots.dots(["a", "b", "c"], {"one": ROWS}, [True, False, False]).axes
    low, high = axes.get_ylim()
    assert high < 0 < 2 < low
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b", "c"]


def test_all_methods_stand_beside_each_other_on_scales_of_their_own():
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8)).astype(np.uint8)
    ones = {f"method {i}": (i + 1) * np.ones((3, 4, 4)) for i in range(4)}
    figure = plots.side_by_side(images, ones)
    assert len(figure.axes) == 3 * (1 + 4) + 1
    overlays = [axes.images[0].get_array() for axes in figure.axes[3:-1]]
    # The same map up to its unit looks the same.
    assert np.allclose(overlays[0], overlays[3]) and np.allclose(overlays[0], overlays[9])
    assert sorted(t.get_text() for t in figure.texts) == ["image", *ones]
    corners = np.array([axes.get_position().get_points() for axes in figure.axes])
    assert corners.min() > -1e-9 and corners.max() < 1 + 1e-9


def test_no_image_dims_the_others_and_signs_are_those_of_the_method():
    images = np.full((2, 3, 8, 8), 128, np.uint8)
    spot = np.zeros((4, 4))
    spot[1, 1] = 1
    figure = plots.side_by_side(images, {"one": np.stack([spot, 1000 * spot])})
    faint, bright = (axes.images[0].get_array() for axes in figure.axes[2:4])
    assert np.allclose(faint, bright) and np.ptp(faint) > 0.5
    # Only the second has negative values, and yet both are red and blue.
    figure = plots.side_by_side(images, {"one": np.stack([spot, spot - 0.5])})
    red, _, blue = np.moveaxis(figure.axes[2].images[0].get_array(), -1, 0)[:, 3, 3]
    assert red > blue
    keys = [t.get_text() for t in figure.axes[-1].get_xticklabels()]
    assert keys == ["−", "0", "+"]


def test_a_name_keeps_clear_of_the_pictures_at_its_left():
    images = np.zeros((2, 3, 8, 8), np.uint8)
    names = ("MI-LR redundant", "guided Grad-CAM", "guided backpropagation", "Grad-CAM, layer1")
    figure = plots.side_by_side(images, {n: np.ones((2, 4, 4)) for n in names}, blocks=3)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pictures = [axes.get_window_extent() for axes in figure.axes[:-1]]
    for text in figure.texts:
        box = text.get_window_extent(canvas.get_renderer())
        assert box.x0 > 0 and not any(box.overlaps(picture) for picture in pictures)


def test_removal_curves_keep_their_values_and_share_a_legend():
    rows = {"MI-LR": [[0, 0, 0], [2, 1, 4], [3, 3, 3]], "random": [[0, 0, 0], [1, 0, 2], [3, 3, 3]]}
    curves = {name: ([0, 0.5, 1], np.array(row)) for name, row in rows.items()}
    figure = plots.removal_curves({"keep": curves, "drop": curves}, "nats", "share")
    axes = figure.axes[1]
    assert list(axes.lines[1].get_ydata()) == [0, 1, 3]
    band = axes.collections[0].get_paths()[0].vertices
    assert {1.0, 4.0} <= set(band[band[:, 0] == 0.5][:, 1])
    assert [text.get_text() for text in figure.legends[0].texts] == ["MI-LR", "random"]


def test_removal_curves_can_be_told_apart_without_colour_and_random_is_grey():
    row = ([0, 1], np.zeros((2, 3)))
    curves = {f"method {i}": row for i in range(7)} | {"random": row}
    lines = plots.removal_curves({"keep": curves}, "nats", "share").axes[0].lines
    assert len({line.get_marker() for line in lines}) == len(lines) == 8
    assert len({line.get_color() for line in lines}) == 8
    assert lines[-1].get_color() == plots.NULL


@pytest.mark.parametrize("kind, mark", [("best", "<strong>3.1</strong>"), ("tied", "<u>3.1</u>")])
def test_the_table_marks_the_best_and_what_cannot_be_told_from_it(kind, mark):
    html = plots.table(["lift"], {"MI-LR": [("3.1", kind)], "random": [("1.0", "")]}, "All.")
    assert f"<th scope='row'>MI-LR</th><td>{mark}</td>" in html
    assert "<td>1.0</td>" in html and "overflow-x" in html


def test_the_first_column_of_a_table_stays_while_the_others_scroll():
    html = plots.table(["lift"], {"MI-LR": [("3.1", "")]}, "All.")
    assert "position: sticky" in html and "<caption>All.</caption>" in html


def test_a_download_holds_the_rows_as_a_file():
    rows = [("Grad-CAM, layer1", "follows", -0.5), ("random", "50 %", "")]
    html = plots.download("all", ["method", "measure", "value"], rows, "All numbers")
    held = re.search(r"href='data:text/csv;charset=utf-8,([^' ]*)'>All numbers</a>", html)[1]
    found = list(csv.reader(io.StringIO(unquote(held))))
    assert found[1:] == [["Grad-CAM, layer1", "follows", "-0.5"], ["random", "50 %", ""]]
    assert found[0] == ["method", "measure", "value"] and "download='all.csv'" in html
