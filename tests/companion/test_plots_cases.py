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
    corners = np.array([axes.get_position().get_points() for axes in figure.axes])
    assert corners.min() > -1e-9 and corners.max() < 1 + 1e-9


def test_numbers_along_a_training_stand_at_their_steps():
    rows = np.array([[1.0, 0.5, 1.5], [3.0, 2.0, 4.0]])
    figure = plots.along(
        [0, 100], {"bits": {"total": rows, "decision": rows / 2}, "%": {"a": rows}}
    )
    first, second = figure.axes
    assert first.lines[0].get_ydata().tolist() == [1, 3]
    assert [text.get_text() for text in second.get_xticklabels()] == ["0", "100"]
    assert [t.get_text() for t in first.get_legend().get_texts()] == ["total", "decision"]
    assert second.get_legend() is None
