import functools
import itertools
from dataclasses import replace

import numpy as np
import pytest

from milr.cache import locate
from milr.data import tables
from milr.data.tables import split
from milr.evaluation import flow_uses, flows
from milr.evaluation.pruning import at_random, magnitudes, smallest, without
from milr.models.tabular import accuracy, train, units
from milr.peers.nif import Settings, estimate, flow
from milr.peers.nif.shared import joint_supremum
from milr.peers.tabular import shapley

PLAN = flows.Plan(hidden=(5,), networks=2, training=80, mine=Settings(steps=40))
TABLE = tables.drawn(rows=120)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MILR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def found():
    return flows.study(TABLE, PLAN)[0]


@pytest.fixture(scope="module")
def told(found):
    return flows.tell(found)[0]


@pytest.fixture
def nothing_anew(monkeypatch):
    def refuse(*_):
        raise AssertionError("made anew")

    monkeypatch.setattr(flows, "train", refuse)
    monkeypatch.setattr(flow, "estimate", refuse)


def test_a_second_study_is_the_first_one_read_back(found, told, nothing_anew):
    second, took = flows.study(TABLE, PLAN)
    read, also = flows.tell(second)
    assert took == flows.study(TABLE, PLAN)[1] > 0
    assert also == flows.tell(found)[1] > 0
    assert same_estimates(second.layers, found.layers) and same_estimates(read, told)
    for k, network in enumerate(second.networks):
        assert accuracy(network, second.split, second.split.test) > 0.8
        assert all(map(np.array_equal, found.said[k], second.said[k]))


def test_what_is_kept_is_what_is_made_without_a_cache(found, told):
    rows = found.split
    for k, said in enumerate(found.said):
        network = train(rows, PLAN.hidden, PLAN.seed + k, PLAN.training)
        assert all(map(np.array_equal, units(network, rows.features), said))
    assert same_estimates(flow.measure(found.said, PLAN.mine), found.layers)
    again = flow.tell(found.said, PLAN.mine, rows.train, rows.test, PLAN.levels)
    assert same_estimates(again, told)


def same_estimates(one, other):
    """Of all steps of all networks: the same classes, types of numbers, and numbers."""
    pairs = zip(itertools.chain(*one), itertools.chain(*other), strict=True)
    return all(
        type(a) is type(b)
        and all(x.dtype == y.dtype for x, y in zip(vars(a).values(), vars(b).values(), strict=True))
        and all(map(np.array_equal, vars(a).values(), vars(b).values()))
        for a, b in pairs
    )


@pytest.mark.parametrize(
    ("table", "plan"),
    [
        (tables.drawn(seed=1, rows=120), PLAN),
        (replace(TABLE, classes=("no", "yes", "never")), PLAN),
        (TABLE, replace(PLAN, seed=1)),
        (TABLE, replace(PLAN, hidden=(6,))),
        (TABLE, replace(PLAN, training=81)),
        (TABLE, replace(PLAN, mine=Settings(steps=40, rate=0.01))),
    ],
)
def test_another_table_or_plan_is_another_study(found, nothing_anew, table, plan):
    with pytest.raises(AssertionError, match="made anew"):
        flows.study(table, plan)


def test_other_units_rows_or_levels_are_told_anew(found, told, nothing_anew):
    said = [[one.copy() for one in each] for each in found.said]
    said[1][1][0, 0] += 1
    rows = replace(found.split, test=found.split.test[1:])
    plan = replace(PLAN, levels=3)
    for other in ({"said": said}, {"split": rows}, {"plan": plan}):
        with pytest.raises(AssertionError, match="made anew"):
            flows.tell(replace(found, **other))


def test_the_key_has_the_text_of_all_that_makes_an_entry():
    known = locate("flow", {}, sources=flows.SOURCES).parts["sources"]
    makers = (flow.measure, flow.tell, estimate, joint_supremum, train, without, split, shapley,
              flow_uses.removal, flow_uses.attributions, flows.study)  # fmt: skip
    for maker in makers:
        assert f"{maker.__module__.replace('.', '/')}.py" in known


def test_once_is_by_all_arguments_networks_too(found, told, monkeypatch):
    made = []
    removal = flow_uses.removal

    @functools.wraps(removal)
    def counting(*arguments):
        made.append(arguments)
        return removal(*arguments)

    monkeypatch.setattr(flow_uses, "removal", counting)
    first, took = flows.once(flow_uses.removal, found, told, 0.1)
    second, same = flows.once(flow_uses.removal, found, told, 0.1)
    assert len(made) == 1 and took == same > 0
    assert list(first) == list(second)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    flows.once(flow_uses.removal, found, told, 0.2)
    flows.once(flow_uses.removal, found, told[::-1], 0.1)
    pruned = [without(one, [[0]]) for one in found.networks]
    flows.once(flow_uses.removal, replace(found, networks=pruned), told, 0.1)
    assert len(made) == 4


def test_once_is_by_the_function():
    links = [np.ones((4, 3)), np.ones((3, 2))]
    assert [len(flows.once(one, links)[0][0]) for one in (flow.carried, flow.through)] == [4, 3]


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


def test_zeros_counts_each_cost_on_its_own_rows_and_without_its_own_units(found):
    rows, every = found.split, []
    for beta, k in itertools.product((1.5, 4), range(2)):
        many, network = flows.zeros(found, beta), found.networks[k]
        gone = flows.without_flow(flows.printed(found, k, beta))
        counts = [len(one) for one in gone]
        assert many.learned[k] == flows.lost(found, k, gone, rows.train)
        assert many.tested[k] == flows.lost(found, k, gone, rows.test)
        small = smallest(magnitudes(network), counts)
        assert many.magnitude[k] == flows.lost(found, k, small, rows.test)
        drawn = [at_random((5,), counts, [PLAN.seed, k, i]) for i in range(flows.DRAWS)]
        costs = [flows.lost(found, k, one, rows.test) for one in drawn]
        assert many.random[k] == pytest.approx(np.mean(costs))
        every.append([many.learned[k], many.tested[k], many.random[k], many.magnitude[k]])
    # No two are the same, so that it would be seen if one stood in the place of another.
    assert len(np.unique(every, axis=1).T) == 4


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
