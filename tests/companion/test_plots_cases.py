"""What the figures of the patent's cases show is what they were given."""

import matplotlib
import numpy as np

from milr.companion import plots_cases as plots

matplotlib.use("Agg")

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8)).astype(np.uint8)


def test_a_triptych_has_overlay_heat_map_and_original_below_each_other():
    maps = np.arange(48.0).reshape(3, 4, 4)
    figure = plots.triptychs(IMAGES, maps)
    *pictures, bar = figure.axes
    assert [text.get_text() for text in figure.texts] == ["overlay", "heat map", "original"]
    assert np.array_equal(pictures[6].images[0].get_array(), np.moveaxis(IMAGES[0], 0, -1))
    assert pictures[3].images[0].get_array().shape == (4, 4, 3)
    tops = [axes.get_position().y1 for axes in (pictures[0], pictures[3], pictures[6])]
    assert tops == sorted(tops, reverse=True)
    assert bar.get_xlabel() == "bits per location"


def test_rows_that_are_compared_share_a_scale():
    same = np.ones((3, 4, 4))
    figure = plots.compared(IMAGES, {"strong": 2 * same, "self-supervised": 0.2 * same})
    assert figure.texts[2].get_text() == "self-\nsupervised"
    strong, weak = (figure.axes[i].images[0].get_array() for i in (3, 6))
    grey = IMAGES[0].mean(0)[..., None] / 255 * 0.75 + 0.25
    assert np.abs(weak - grey).mean() < np.abs(strong - grey).mean()
    assert figure.axes[-1].get_xlim() == (0, 2)
    corners = np.array([axes.get_position().get_points() for axes in figure.axes])
    assert corners.min() > -1e-9 and corners.max() < 1 + 1e-9


def test_figures_that_are_compared_share_the_scale_of_all_their_maps():
    same = np.ones((3, 4, 4))
    every = np.stack([2 * same, -same])
    alone = plots.compared(IMAGES, {"total": 2 * same})
    one = plots.compared(IMAGES, {"total": 2 * same}, alike=every)
    other = plots.triptychs(IMAGES, -same, alike=every)
    ends = [figure.axes[-1].get_xlim() for figure in (alone, one, other)]
    assert ends == [(0, 2), (-2, 2), (-2, 2)] and plots.scale_end(every) == 2
    red, blue = one.axes[3].images[0].get_array(), other.axes[0].images[0].get_array()
    assert (red[..., 0] > red[..., 2]).all() and (blue[..., 0] < blue[..., 2]).all()


def test_a_colour_bar_says_at_which_ends_values_may_lie_beyond_it():
    maps = np.arange(48.0).reshape(3, 4, 4)
    pointed = []
    for values in (maps, maps - 24):
        patches = plots.triptychs(IMAGES, values).axes[-1].patches
        ends = [patch.get_path().get_extents().x0 for patch in patches]
        pointed.append(["left" if end < 0 else "right" for end in ends])
    assert pointed == [["right"], ["left", "right"]]


def test_numbers_along_a_training_stand_at_their_steps():
    rows = np.array([[1.0, 0.5, 1.5], [3.0, 2.0, 4.0], [2.0, 1.0, 3.0]])
    panels = {"bits": {"total": rows, "decision": rows / 2}, "%": {"a": rows}, "": {"a": rows}}
    figure = plots.along([0, 5, 50], panels, {"%": (1.5, "even spread")})
    first, second, third = figure.axes
    assert first.lines[0].get_ydata().tolist() == [1, 3, 2]
    assert third.get_xlabel() == "step (even up to 5, logarithmic from there on)"
    assert [text.get_text() for text in third.get_xticklabels()] == ["0", "5", "50"]
    axis = first.xaxis.get_transform().transform
    zero, half, five, fifty, all_ = axis(np.array([0, 2.5, 5, 50, 500]))
    assert half - zero == five - half and np.isclose(fifty - five, all_ - fifty)
    assert [t.get_text() for t in first.get_legend().get_texts()] == ["total", "decision"]
    assert [t.get_text() for t in second.get_legend().get_texts()] == ["a", "even spread"]
    assert second.lines[-1].get_ydata() == [1.5, 1.5] and third.get_legend() is None
