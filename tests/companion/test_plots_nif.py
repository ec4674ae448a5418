import numpy as np
import pytest
from matplotlib.colors import to_hex

from milr.companion import plots_nif

LINKS = [np.array([[1.0, 0.0, 0.5], [0.5, 0.0, 0.2]]), np.array([[2.0], [1.0], [0.0]])]
GROUPS = [{(0, 0), (1, 0), (2, 0)}, {(0, 1)}]


def units(axes):
    """Marks of the units by their place in the drawing."""
    marks = [line for line in axes.lines if len(line.get_xdata()) == 1]
    return {(float(m.get_xdata()[0]), float(m.get_ydata()[0])): m for m in marks}


def test_units_without_flow_are_hollow_and_communities_have_their_colours():
    figure = plots_nif.flow_network({"net": LINKS}, {"net": GROUPS}, ["a", "b"], ["c"])
    drawn = units(figure.axes[0])
    assert len(drawn) == 6
    # No link leads to the second hidden unit, and none goes on from the third.
    assert [drawn[1.0, y].get_markerfacecolor() == "white" for y in (1, 0, -1)] == [0, 1, 1]
    assert drawn[1.0, 1.0].get_color() == "#0072B2" != drawn[0.0, -0.5].get_color()


def test_only_links_above_nothing_are_drawn_wider_where_they_are_wider():
    figure = plots_nif.flow_network({"net": LINKS}, {"net": GROUPS}, ["a", "b"], ["c"])
    (edges,) = figure.axes[0].collections
    widths = edges.get_linewidth()
    assert len(widths) == 6 and max(widths) == widths[[*range(6)][np.argmax(widths)]]
    assert np.argmax(widths) == 4  # the link of 2 from the first hidden unit to the class


def test_the_ceiling_is_drawn_across_and_named():
    figure = plots_nif.climbing({"one": np.array([1.0, 10.0])}, 5.0, "log of rows")
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    assert [text.get_text() for text in axes.texts] == ["log of rows"]


def test_a_kind_has_one_colour_in_all_panels():
    pair = (np.array([0.1, 0.2]), np.array([0.15, 0.2]))
    figure = plots_nif.beside_exact({"left": {"a": pair, "b": pair}, "right": {"b": pair}})
    left, right = figure.axes
    assert to_hex(left.lines[2].get_color()) == to_hex(right.lines[1].get_color())
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


@pytest.mark.parametrize("panels", [1, 2])
def test_bands_reach_from_low_to_high(panels):
    rows = np.array([[1.0, 0.5, 2.0], [2.0, 1.0, 3.0]])
    names = [f"panel {i}" for i in range(panels)]
    x = dict.fromkeys(names, np.arange(2))
    figure = plots_nif.bands({name: {"a": rows} for name in names}, x, "x", "y", columns=panels)
    (band,) = figure.axes[0].collections
    vertices = band.get_paths()[0].vertices[:, 1]
    assert (vertices.min(), vertices.max()) == (0.5, 3.0)
