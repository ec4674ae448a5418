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
    figure = plots_nif.flow_network(
        {"net": LINKS}, {"net": GROUPS}, ["a", "b"], ["c"], ["link, nats"]
    )
    drawn = units(figure.axes[0])
    assert len(drawn) == 6
    # No link leads to the second hidden unit, and none goes on from the third.
    assert [drawn[1.0, y].get_markerfacecolor() == "white" for y in (1, 0, -1)] == [0, 1, 1]
    assert drawn[1.0, 1.0].get_color() == "#0072B2" != drawn[0.0, -0.5].get_color()


def test_only_links_above_nothing_are_drawn_wider_where_they_are_wider():
    figure = plots_nif.flow_network(
        {"net": LINKS}, {"net": GROUPS}, ["a", "b"], ["c"], ["link, nats"]
    )
    (edges,) = figure.axes[0].collections
    widths = edges.get_linewidth()
    assert len(widths) == 6
    # The link of 2 from the first hidden unit to the class.
    assert widths[4] > np.delete(widths, 4).max()


@pytest.mark.parametrize(("weakest", "named"), [(0.0, True), (0.1, False)])
def test_the_legend_speaks_of_hollow_units_only_if_there_are_any(weakest, named):
    links = [np.maximum(one, weakest) for one in LINKS]
    figure = plots_nif.flow_network({"net": links}, {"net": GROUPS}, ["a", "b"], ["c"], ["bits"])
    assert bool(plots_nif.empty(links)) is named
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert ("nothing flows" in texts) is named
    assert figure.axes[1].get_ylabel() == "bits"


def test_even_the_weakest_link_shows_on_white():
    red, green, blue, _ = plots_nif.LINKS(0.0)
    assert 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.7


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


@pytest.mark.parametrize("tables", [1, 2])
def test_each_band_has_a_panel_of_its_own_and_reaches_from_low_to_high(tables):
    rows = np.array([[1.0, 0.5, 2.0], [2.0, 1.0, 3.0]])
    names = [f"table {i}" for i in range(tables)]
    x = dict.fromkeys(names, np.arange(2))
    figure = plots_nif.bands({name: {"a": rows, "b": rows + 9} for name in names}, x, "x", "y")
    assert len(figure.axes) == 2 * tables
    for axes, low in zip(figure.axes, [0.5] * tables + [9.5] * tables, strict=True):
        (band,) = axes.collections
        vertices = band.get_paths()[0].vertices[:, 1]
        assert (vertices.min(), vertices.max()) == (low, low + 2.5)
        assert [line.get_color() for line in axes.lines].count(plots_nif.LOOSE) == 2
