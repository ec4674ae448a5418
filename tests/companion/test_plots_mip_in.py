"""The chapter's figures hold what they are given."""

import numpy as np

from milr.companion import plots_mip_in


def test_rows_of_a_group_share_a_scale_and_groups_have_a_bar_each():
    ink = {"digit": np.full((3, 4, 4), 0.5), "signal": np.ones((3, 4, 4))}
    weights = {"attribution": np.linspace(-1, 1, 48).reshape(3, 4, 4)}
    figure = plots_mip_in.signal_rows({"ink": ink, "ink per logit": weights})
    pictures = [axes for axes in figure.axes if axes.images]
    assert len(pictures) == 9 and len(figure.axes) == 11
    shades = {
        name: pictures[row * 3].images[0].get_array()[0, 0, 0] for row, name in enumerate(ink)
    }
    assert shades["digit"] > shades["signal"]  # less ink is paler


def test_ladder_draws_a_line_for_each_kind_in_one_look():
    rows = np.array([[0.2, 0.1, 0.3], [0.9, 0.8, 1.0]])
    figure = plots_mip_in.ladder(
        {"a": (["1", "2"], {"global": rows, "local": rows}), "b": (["x", "y"], {"local": rows})}
    )
    first, second = figure.axes
    colours = [line.get_color() for line in first.lines if len(line.get_xdata()) == 2]
    assert second.lines[0].get_color() in colours[1:]
    # From the prediction down, so the highest layer comes first.
    assert [text.get_text() for text in first.get_xticklabels()] == ["2", "1"]
