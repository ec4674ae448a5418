"""Links and paths against networks that were calculated by hand."""

import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milr.exact import information as information_of_table
from milr.peers.nif import Settings, exact, flow, graph

BIT = math.log(2)
QUARTER = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)  # entropy of a bit that is 1 a quarter


def and_or_xor():
    """Two bits, their AND and OR, and from these two their XOR."""
    weights = [np.array([[1, 1], [1, 1]]), np.array([[-1, 1]])]
    return exact.threshold_units(weights, [np.array([-1.5, -0.5]), np.array([-0.5])])


def test_a_network_of_two_units_holds_what_was_calculated_by_hand():
    bits, both, xor = and_or_xor()
    assert both.tolist() == [[0, 0], [0, 1], [0, 1], [1, 1]]
    assert xor[:, 0].tolist() == [0, 1, 1, 0]
    first, second = exact.layer(bits, both), exact.layer(both, xor)
    assert first.relevance == pytest.approx([QUARTER, QUARTER])
    assert first.redundancy == pytest.approx(np.zeros((2, 2)))
    # AND and OR are 00, 01, 11 with 1/4, 1/2, 1/4: their joint entropy is 1.5 bits.
    shared = 2 * QUARTER - 1.5 * BIT
    assert second.relevance == pytest.approx([BIT])
    assert second.redundancy[0, 1] == second.redundancy[1, 0] == pytest.approx(shared)
    told = exact.told(both, xor)
    # Where AND is 0 (3/4), XOR is 1 in two of three cases.
    alone = BIT - 0.75 * (math.log(3) - 2 / 3 * BIT)
    assert told.pairs[:, 0] == pytest.approx([alone, alone])
    assert told.chain[:, 0] == pytest.approx([alone, BIT - alone])
    assert told.whole == pytest.approx([BIT]) and told.entropy == pytest.approx([BIT])


def test_estimates_of_the_two_unit_network_find_the_same():
    rows = np.random.default_rng(0).integers(4, size=400)
    said = [layer[rows].astype(float) for layer in and_or_xor()]
    (estimated,) = flow.measure([said], Settings(steps=80))
    (told,) = flow.tell([said], Settings(steps=80), np.arange(240), np.arange(240, 400))
    true = exact.layer(*and_or_xor()[1:])
    assert estimated[1].relevance == pytest.approx(true.relevance, abs=0.05)
    assert estimated[1].redundancy == pytest.approx(true.redundancy, abs=0.05)
    assert told[1].chain == pytest.approx(exact.told(*and_or_xor()[1:]).chain, abs=0.08)
    assert told[1].chain.sum(0) == pytest.approx(told[1].whole)


def test_printed_links_depend_on_the_order_of_the_units():
    layer = exact.layer(*and_or_xor()[1:])
    shared = layer.redundancy[0, 1]
    assert flow.printed(layer, 1.0)[:, 0] == pytest.approx([BIT, BIT - shared])
    assert flow.printed(layer, 1.0, order=(1, 0))[:, 0] == pytest.approx([BIT - shared, BIT])
    assert flow.printed(layer, 0.0)[:, 0] == pytest.approx([BIT, BIT])


def test_an_attribution_sums_products_over_all_paths():
    first, second = np.array([[1.0, 2.0], [0.5, 0.0]]), np.array([[3.0], [4.0]])
    assert flow.attribution([first, second]).tolist() == [[1 * 3 + 2 * 4], [0.5 * 3]]
    assert flow.attribution([first]).tolist() == first.tolist()


def path_sums(links):
    """Through each hidden unit, by listing the paths."""
    made = nx.DiGraph()
    for layer, one in enumerate(links):
        for i, k in np.ndindex(one.shape):
            made.add_edge((layer, i), (layer + 1, k), weight=one[i, k])
    found = [np.zeros(one.shape[1]) for one in links[:-1]]
    for i in range(len(links[0])):
        for k in range(links[-1].shape[1]):
            for path in nx.all_simple_paths(made, (0, i), (len(links), k)):
                value = math.prod(made.edges[edge]["weight"] for edge in nx.utils.pairwise(path))
                for layer, place in path[1:-1]:
                    found[layer - 1][place] += value
    return found


@given(st.integers(0, 100), st.lists(st.integers(1, 3), min_size=3, max_size=5))
def test_what_flows_through_a_unit_is_the_sum_over_its_paths(seed, widths):
    random = np.random.default_rng(seed)
    links = [random.random((a, b)) for a, b in zip(widths, widths[1:], strict=False)]
    for own, listed in zip(flow.through(links), path_sums(links), strict=True):
        assert own == pytest.approx(listed)
    total = flow.attribution(links).sum()
    assert all(one.sum() == pytest.approx(total) for one in flow.through(links))


def test_printed_attributions_rank_features_by_what_stands_before_them():
    random = np.random.default_rng(0)
    shared = random.random((4, 4))
    layer = flow.Layer(3 + random.random(5), shared + shared.T)
    for _ in range(5):  # whatever comes after
        rest = random.random((5, 2))
        own = flow.attribution([flow.printed(layer, 0.1), rest]).sum(1)
        before = np.tril(layer.redundancy, -1).sum(1)
        assert np.argsort(-own).tolist() == np.argsort(before).tolist()


def test_normalised_links_are_the_same_in_nats_and_bits():
    told = exact.told(*and_or_xor()[1:])
    nats = flow.normalised(told.pairs, told.entropy)
    assert flow.normalised(told.pairs / BIT, told.entropy / BIT) == pytest.approx(nats)
    assert flow.normalised(np.ones((2, 1)), np.zeros(1)).tolist() == [[0], [0]]


def test_cutting_keeps_the_order_and_shares_the_rows_evenly():
    values = np.random.default_rng(0).standard_normal((400, 2))
    codes = flow.cut(values, 4)
    assert np.unique(codes, return_counts=True)[1].tolist() == [200] * 4
    order = np.argsort(values[:, 0])
    assert (np.diff(codes[order, 0]) >= 0).all()


@pytest.mark.parametrize("ones", [1, 20, 99])
def test_cutting_loses_nothing_of_a_bit(ones):
    bit = (np.arange(100) < ones)[:, None].astype(float)
    assert flow.cut(bit, 4).sum() == ones


def test_counted_information_is_that_of_the_table_of_probabilities():
    codes = np.random.default_rng(0).integers(0, 2, (40, 3))
    table = np.zeros((2, 2, 2))
    np.add.at(table, tuple(codes.T), 1 / 40)
    counted = exact.information(codes[:, [0]], codes[:, [1]], codes[:, [2]])
    assert counted == pytest.approx(information_of_table(table, 0, 1, given=2))


def test_too_many_inputs_are_refused():
    with pytest.raises(ValueError, match="17 bits have 2\\^17 inputs"):
        exact.inputs(17)


def test_a_drawn_network_is_one_of_thresholds():
    weights, biases = exact.drawn_network((5, 4, 2), seed=0)
    layers = exact.threshold_units(weights, biases)
    assert [one.shape for one in layers] == [(32, 5), (32, 4), (32, 2)]
    assert all(set(np.unique(one)) <= {0, 1} for one in layers)


def blocks():
    """Two groups of units with wide links inside and narrow ones between."""
    wide = np.kron(np.eye(2), np.ones((2, 2))) + 0.01
    return [wide, wide]


def test_communities_are_the_groups_that_were_built():
    found = graph.communities(graph.graph(blocks()))
    expected = [{(layer, place + i) for layer in range(3) for i in (0, 1)} for place in (0, 2)]
    assert sorted(map(sorted, found)) == sorted(map(sorted, expected))


def beyond_strengths(links):
    """Modularity less that of links without groups, in which the units are as strong."""
    null = graph.without_groups(links)
    return graph.modularity(graph.graph(links)) - graph.modularity(graph.graph(null))


def test_built_groups_have_more_modularity_than_links_without_groups():
    assert graph.modularity(graph.graph(blocks())) == pytest.approx(0.48, abs=0.02)
    assert beyond_strengths(blocks()) == pytest.approx(0.48, abs=0.02)


@pytest.mark.parametrize(("beta", "most"), [(0, 1e-9), (0.1, 0.01)])
def test_links_without_a_value_of_their_own_have_no_groups(beta, most):
    """As equation 2 prints them: what the end has, less beta times what the feature shares."""
    random = np.random.default_rng(0)
    links = []
    for d, t in ((4, 10), (10, 10), (10, 3)):
        shared = random.uniform(0, 1, (d, d))
        layer = flow.Layer(random.uniform(1, 2, t), shared + shared.T)
        links.append(flow.printed(layer, beta))
    assert graph.modularity(graph.graph(links)) > 0.05
    assert abs(beyond_strengths(links)) < most


def test_links_without_groups_keep_the_strength_of_every_unit():
    links = [np.array([[1.0, 3.0], [2.0, -5.0]]), np.zeros((2, 3))]
    first, empty = graph.without_groups(links)
    assert first == pytest.approx(np.array([[2.0, 2.0], [1.0, 1.0]]))
    assert empty.shape == (2, 3) and not empty.any()


def test_a_network_without_links_has_no_communities():
    nothing = graph.graph([np.zeros((2, 3)), np.zeros((3, 1))])
    assert len(nothing) == 6
    assert graph.communities(nothing) == [] and graph.modularity(nothing) == 0
