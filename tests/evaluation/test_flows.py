import numpy as np
import pytest

from milr.data import tables
from milr.evaluation import flow_uses, flows
from milr.peers.nif import Settings, flow


@pytest.fixture(scope="module")
def found():
    plan = flows.Plan(hidden=(5,), networks=2, training=80, mine=Settings(steps=40))
    return flows.study(tables.drawn(rows=120), plan)


@pytest.fixture(scope="module")
def told(found):
    return flows.tell(found)


def test_a_study_has_layers_for_each_step_of_each_network(found, told):
    assert len(found.layers) == len(told) == 2
    assert [one.redundancy.shape for one in found.layers[0]] == [(4, 4), (5, 5)]
    assert [one.pairs.shape for one in told[0]] == [(4, 5), (5, 2)]


def test_a_unit_that_is_made_constant_has_no_flow(found):
    said = [one.copy() for one in found.said[0]]
    said[1][:, 3] = 0.5
    (layers,) = flow.measure([said], Settings(steps=40))
    gone = flows.without_flow(flow.carried([flow.printed(one, 0.0) for one in layers]))
    assert gone[0].tolist() == [3]


def test_links_below_nothing_carry_nothing():
    links = flow.carried([np.array([[1.0, -1.0], [2.0, 1.0]]), np.array([[1.0], [-3.0]])])
    assert [one.tolist() for one in flows.without_flow(links)] == [[1]]


def test_with_a_large_beta_only_what_comes_first_has_flow(found):
    gone = flows.without_flow(flows.printed(found, 0, beta=1e4))
    assert flows.share(gone, (5,)) >= 0.6


def test_zeros_counts_units_and_points(found):
    none, many = flows.zeros(found, 0.0), flows.zeros(found, 1e4)
    assert (none.share <= many.share).all() and many.share.mean() > 0.5
    assert many.learned.mean() >= none.learned.mean() == pytest.approx(0, abs=5)
    assert many.tested.shape == many.random.shape == many.magnitude.shape == (2,)


def test_beta_is_tuned_on_the_rows_that_were_learned_from():
    def tried(beta, learned):
        nothing = np.zeros(2)
        return flows.Zeros(beta, nothing, nothing, np.full(2, learned), nothing, nothing, nothing)

    assert flows.tuned([tried(0.0, 0.0), tried(0.1, 0.4), tried(0.5, 0.6)]).beta == 0.1
    assert flows.tuned([tried(0.0, 2.0), tried(0.1, 3.0)]).beta == 0.0


def test_other_orders_choose_other_units(found):
    chosen = flows.reordered(found, 0, beta=1.0, draws=4)
    assert len(chosen) == 4
    assert flows.agreement(chosen) < 1
    assert flows.agreement([[np.array([1, 2])], [np.array([2, 3])]]) == pytest.approx(1 / 3)
    assert np.isnan(flows.agreement([[np.array([], int)]] * 2))


def test_pairs_find_the_feature_that_tells_and_the_junk(found, told):
    given = flow_uses.attributions(found, told, beta=0.1)
    assert set(map(len, given.values())) == {2}
    for name in (flow_uses.PAIRS, flow_uses.SHAP, flow_uses.GRADIENTS):
        assert (given[name].argmax(1) == 0).all()
        assert given[name].mean(0)[3] < 0.5 * given[name].mean(0)[0]


def test_printed_attributions_are_a_matter_of_the_order_alone(found):
    for k in range(2):
        own = flow.attribution(flows.printed(found, k, 0.1)).sum(1)
        before = flow_uses.shared_before(found, k)
        assert np.argsort(-own).tolist() == np.argsort(before).tolist()
    orders = flow_uses.in_all_orders(found, 0, 0.1)
    assert orders.shape == (24, 4)
    # Each feature is the first in 6 orders, and loses nothing there.
    assert (np.isclose(orders, orders.max(), rtol=1e-6).sum(0) >= 6).all()


def test_without_any_unit_all_orders_have_lost_the_same(found, told):
    gone = flow_uses.removal(found, told, beta=0.1)
    assert set(gone) == {flow_uses.PRINTED, flow_uses.PAIRS, flow_uses.CHAIN, "magnitude",
                         "at random"}  # fmt: skip
    last = np.stack([curve[:, -1] for curve in gone.values()])
    assert all(curve.shape == (2, 6) and (curve[:, 0] == 0).all() for curve in gone.values())
    assert np.allclose(last, last[0])
