"""Figures show what they are given: colours, scales and places are read back from the pixels."""

import matplotlib
import numpy as np
import pytest

from milr.companion import plots
from milr.companion.diagram import ARROWS, BRIDGE

matplotlib.use("Agg")


def rendered(figure) -> np.ndarray:
    """The figure as (H, W, 3) bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


@pytest.fixture
def episodes() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (3, 5, 2, 3, 8, 8), dtype=np.uint8)


def test_nonnegative_maps_start_at_zero_and_signed_maps_are_centred_there():
    assert plots.colour_scale(np.array([0.0, 3.0])).norm.vmin == 0
    signed = plots.colour_scale(np.array([-1.0, 3.0])).norm
    assert signed.vmin == -signed.vmax < 0


def test_one_hot_pixel_does_not_dim_the_others():
    maps = np.ones((50, 10, 10))
    maps[0, 0, 0] = 1000
    assert plots.colour_scale(maps).norm.vmax == pytest.approx(1)


def test_maps_of_nothing_but_zeros_can_be_drawn():
    assert plots.colour_scale(np.zeros((2, 3, 3))).norm.vmax > 0


def test_overlay_colours_only_where_there_is_information():
    image = np.full((3, 40, 40), 128, dtype=np.uint8)
    values = np.zeros((4, 4))
    values[0, 0] = 2.0
    blended = plots.overlay(image, values, plots.colour_scale(np.array([0.0, 2.0])))
    assert blended.shape == (40, 40, 3)
    assert np.ptp(blended[-1, -1]) == pytest.approx(0, abs=1e-6)
    assert np.ptp(blended[2, 2]) > 0.2
    assert 0 <= blended.min() <= blended.max() <= 1


def test_enlarging_invents_no_sign():
    values = np.zeros((6, 6))
    values[3, 3] = 1.0
    scale = plots.colour_scale(np.array([-1.0, 1.0]))
    image = np.full((3, 60, 60), 255, dtype=np.uint8)
    blended = plots.overlay(image, values, scale)
    red, blue = blended[..., 0], blended[..., 2]
    assert (red >= blue - 1e-6).all()


def test_episodes_stand_in_six_columns_with_support_first(episodes):
    episodes[:] = 0
    episodes[0, 0, 0] = np.array([255, 0, 0])[:, None, None]
    episodes[2, 4, 1] = np.array([0, 0, 255])[:, None, None]
    figure = plots.originals(episodes)
    pixels = rendered(figure)
    red = np.argwhere((pixels == (255, 0, 0)).all(-1)).mean(0) / pixels.shape[:2]
    blue = np.argwhere((pixels == (0, 0, 255)).all(-1)).mean(0) / pixels.shape[:2]
    assert red[0] < 0.3 and red[1] < 0.17
    assert blue[0] > 0.8 and blue[1] > 0.83
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["support", "query"] * 3
    assert [text.get_text() for text in figure.texts] == ["(a)", "(b)", "(c)"]


def test_all_maps_of_a_figure_share_one_scale_with_its_unit():
    maps = np.zeros((3, 5, 2, 4, 4))
    maps[0, 0, 0], maps[2, 4, 1] = 1.0, 4.0
    figure = plots.heat_maps(maps)
    faint, strong = figure.axes[0].images[0], figure.axes[29].images[0]
    assert np.asarray(faint.get_array()).sum() < np.asarray(strong.get_array()).sum()
    assert figure.axes[-1].get_xlabel() == "bits per location"


def test_overlays_of_maps_at_another_resolution_than_the_images(episodes):
    maps = np.random.default_rng(1).normal(size=(3, 5, 2, 3, 3))
    figure = plots.overlays(episodes, maps)
    assert figure.axes[0].images[0].get_array().shape == (8, 8, 3)


def test_rows_of_maps_have_names_and_one_scale_and_what_stands_apart_its_own(episodes):
    total, decision = np.full((5, 4, 4), -2.0), np.full((5, 4, 4), 1.0)
    rows = {"total": total, "decision": decision}
    apart = {"capacity": np.full((5, 4, 4), 7.0)}
    figure = plots.map_rows(episodes[0, :, 0], rows, apart)
    rendered(figure)
    names = [axes.get_ylabel() for axes in figure.axes[:20:5]]
    assert names == ["image", "total", "decision", "capacity"]
    shared, own = figure.axes[20:]
    assert shared.get_ylim() == pytest.approx((-2, 2))
    assert own.get_ylim() == pytest.approx((0, 7))


def test_a_value_has_one_colour_in_all_rows_of_a_figure():
    images = np.full((2, 3, 8, 8), 128, dtype=np.uint8)
    weak, strong = np.full((2, 4, 4), -1.0), np.full((2, 4, 4), -1.0)
    strong[1] = 4.0
    figure = plots.map_rows(images, {"total": strong, "decision": weak})
    total, decision = figure.axes[2].images[0], figure.axes[4].images[0]
    np.testing.assert_allclose(total.get_array(), decision.get_array())


def test_figures_that_are_given_one_scale_share_it(episodes):
    maps = np.random.default_rng(1).normal(size=(3, 5, 2, 3, 3))
    scale = plots.colour_scale(3 * maps)
    rows = {"total": maps[0, :, 0]}
    ends = [
        plots.heat_maps(maps, scale=scale).axes[-1].get_xlim(),
        plots.overlays(episodes, maps, scale=scale).axes[-1].get_xlim(),
        plots.map_rows(episodes[0, :, 0], rows, scale=scale).axes[-1].get_ylim(),
    ]
    assert ends == [pytest.approx((scale.norm.vmin, scale.norm.vmax))] * 3


@pytest.mark.parametrize(("low", "ends"), [(-1, "both"), (0, "max")])
def test_the_bar_is_pointed_where_values_lie_beyond_it(low, ends):
    maps = np.full((3, 5, 2, 4, 4), 1.0)
    maps[0] = low
    figure = plots.heat_maps(maps)
    assert plots.colour_scale(maps).cmap.colorbar_extend == ends
    triangles = [patch for patch in figure.axes[-1].patches if len(patch.get_path()) < 6]
    assert len(triangles) == {"both": 2, "max": 1}[ends]
    assert not matplotlib.colormaps["RdBu_r"].colorbar_extend, "no other figure's colours change"


def test_bars_end_at_the_means_and_intervals_at_their_ends():
    figure = plots.bars(["beak", "wing"], {"decision": [[2, 1, 4], [3, 3, 3]]}, "lift", (1, "even"))
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [2, 3]
    intervals = axes.collections[0].get_segments()
    assert intervals[0][:, 0].tolist() == [1, 4]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["beak", "wing"]
    assert axes.get_xlabel() == "lift"


def test_the_axis_ends_at_the_largest_value_there_can_be():
    values = {"correlation": [[0.93, 0.91, 0.94]]}
    assert plots.bars(["total"], values, "", most=1).axes[0].get_xlim() == (0, 1)
    assert plots.bars(["total"], values, "", (2, "x")).axes[0].get_xlim()[1] > 2


def test_curves_differ_in_more_than_colour():
    lines = {name: (range(3), range(3)) for name in ("train", "held out")}
    figure = plots.curves({"loss, nats": lines})
    styles = [line.get_linestyle() for line in figure.axes[0].lines]
    assert len(set(styles)) == 2
    assert figure.axes[0].get_ylabel() == "loss, nats"


def test_contact_sheet_leaves_no_empty_frames(episodes):
    figure = plots.contact_sheet(episodes[0, :, 0], list("abcde"), columns=3)
    shown = [axes.get_xlabel() for axes in figure.axes if axes.images]
    assert shown == list("abcde")
    assert not figure.axes[5].axison


def test_diagram_keeps_its_words_inside_the_page_and_their_boxes():
    figure = plots.diagram()
    rendered(figure)
    (axes,) = figure.axes
    page = figure.bbox
    for text in axes.texts:
        extent = text.get_window_extent()
        assert page.x0 <= extent.x0 and extent.x1 <= page.x1
        assert page.y0 <= extent.y0 and extent.y1 <= page.y1
    boxes = [patch.get_window_extent() for patch in axes.patches]
    for text in axes.texts:
        extent = text.get_window_extent()
        middle = ((extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2)
        around = [box for box in boxes if box.contains(*middle)]
        assert all(box.x0 <= extent.x0 and extent.x1 <= box.x1 for box in around)


def test_wires_of_the_diagram_cross_without_meeting():
    (axes,) = plots.diagram().axes
    x_wire = next(line for line in axes.lines if (3.7, 1.75) in set(map(tuple, line.get_xydata())))
    bus = next(line for line in axes.lines if (3.25, 1.4) in set(map(tuple, line.get_xydata())))
    crossing = x_wire.get_xydata()[0][0], bus.get_xydata()[1][1]
    assert np.hypot(*(x_wire.get_xydata() - crossing).T).min() == pytest.approx(BRIDGE)
    arrows = {tuple(start) for start, _, _ in ARROWS}
    assert tuple(x_wire.get_xydata()[-1]) in arrows, "the wire ends where its arrow begins"


def test_wide_figures_fit_a_page_and_narrow_ones_a_phone(episodes):
    assert plots.originals(episodes).get_size_inches()[0] <= 7.01
    assert plots.diagram().get_size_inches()[0] <= 5
    assert plots.curves({"": {"": ([0], [0])}}).get_size_inches()[0] <= 5
