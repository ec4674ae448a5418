"""Figures about data show the parts, differences and places that they are given."""

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from milr.companion import plots_data

matplotlib.use("Agg")


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (5, 3, 40, 40), dtype=np.uint8)


def test_part_masks_name_each_part_that_is_there_inside_of_it(images):
    labels = np.zeros((2, 40, 40), dtype=np.uint8)
    labels[:, 10:20] = 2
    labels[1, 30:, 5:8] = 1
    figure = plots_data.part_masks(images[:2], labels, ["background", "beak", "wing"])
    one, other = figure.axes[2:]
    assert [text.get_text() for text in one.texts] == ["wing"]
    assert sorted(text.get_text() for text in other.texts) == ["beak", "wing"]
    for axes, label in ((one, labels[0]), (other, labels[1])):
        for text in axes.texts:
            x, y = text.xy
            assert label[y, x] == ["background", "beak", "wing"].index(text.get_text())
        red, green, blue = axes.images[0].get_array()[0, 20]
        assert red == green == blue > 0.8  # the background


def test_no_two_parts_of_a_bird_that_touch_share_a_colour():
    colours = [to_rgb(colour) for colour in plots_data.PARTS]
    small = (4, 12)  # legs and eye are black, and far from each other
    assert len({colours[i] for i in range(len(colours)) if i not in small}) == len(colours) - 2


def test_differences_are_framed_and_the_first_picture_has_none(images):
    differences = plots_data.difference(images, images[:1])
    figure = plots_data.interventions(images, differences, list("abcde"))
    above, below = figure.axes[:5], figure.axes[5:]
    assert [axes.get_xlabel() for axes in above] == list("abcde")
    assert not below[0].axison and not below[0].images
    for axes, shown in zip(below[1:], differences[1:], strict=True):
        assert axes.spines["left"].get_visible()
        assert (axes.images[0].get_array() == np.moveaxis(shown, 0, -1)).all()


def test_a_box_outside_of_a_photograph_leaves_its_axes_alone(images):
    boxes = np.array([[-10.0, -5, 60, 70]])
    parts = np.array([[[50.0, 20, 1], [3, 3, 0]]])
    figure = plots_data.photographs(images[:1], boxes, parts, ["Red faced Cormorant"])
    axes = figure.axes[0]
    assert axes.get_xlim() == (-0.5, 39.5) and axes.get_ylim() == (39.5, -0.5)
    assert axes.get_title() == "Red-faced Cormorant"


@pytest.mark.parametrize(
    ("folder", "written"),
    [("American Three toed Woodpecker", "American Three-toed Woodpecker"),
     ("Blue Jay", "Blue Jay")],
)  # fmt: skip
def test_a_species_is_hyphenated_where_a_small_word_follows(folder, written):
    assert plots_data._hyphened(folder) == written
