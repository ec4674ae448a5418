import numpy as np
import pytest
import torch

from milr.peers.nif import Settings, estimate
from milr.peers.nif.shared import joint_supremum

QUICK = Settings(steps=80)


def normal_pairs(correlation, count, rows=400, seed=0):
    random = np.random.default_rng(seed)
    x = random.standard_normal((count, rows, 1))
    noise = random.standard_normal((count, rows))
    z = correlation * x[..., 0] + np.sqrt(1 - correlation**2) * noise
    return list(x), list(z)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_held_out_estimates_are_near_the_truth_of_normal_pairs(correlation):
    x, z = normal_pairs(correlation, 8)
    learn, read = np.arange(240), np.arange(240, 400)
    found = estimate(x, z, QUICK, learn, read)
    assert found.mean() == pytest.approx(-np.log(1 - correlation**2) / 2, abs=0.08)


def test_a_link_gives_alone_what_it_gives_beside_others():
    x, z = normal_pairs(0.6, 3)
    wide = np.concatenate([x[0], x[1], x[2]], axis=1)
    together = estimate([wide, x[1], x[2]], z, QUICK)
    alone = [estimate([x[p]], [z[p]], QUICK, first=p)[0] for p in (1, 2)]
    assert together[1:] == pytest.approx(alone, abs=1e-3)


def test_what_is_read_where_it_was_learned_is_at_most_what_the_rows_hold():
    random = np.random.default_rng(0)
    x = random.standard_normal((30, 5))
    found = estimate([x], [x[:, 0] * x[:, 1]], Settings(steps=600))
    assert 1.5 < found[0] <= np.log(30)


def test_a_constant_unit_reads_nothing():
    x, z = normal_pairs(0.9, 1)
    found = estimate([x[0], np.ones_like(x[0])], [np.full(400, 3.0), z[0]], QUICK)
    assert np.all(found <= 1e-6) and np.all(found > -0.02)


def test_the_scale_of_a_unit_changes_nothing():
    x, z = normal_pairs(0.7, 1)
    plain, scaled = (estimate([a * x[0] + a], [z[0] / a], QUICK)[0] for a in (1, 1000))
    assert scaled == pytest.approx(plain, abs=1e-3)


def test_numbers_of_rows_that_differ_are_refused():
    with pytest.raises(ValueError, match="from 5 to 6 rows"):
        estimate([np.zeros((5, 1))], [np.zeros(6)], QUICK)
    with pytest.raises(ValueError, match="1 arrays x and 0 arrays z"):
        estimate([np.zeros((5, 1))], [], QUICK)


def test_the_joint_supremum_climbs_beyond_all_information_where_there_is_redundancy():
    random = np.random.default_rng(0)
    first = random.standard_normal((100, 1))
    source = np.concatenate([first, first + 0.3 * random.standard_normal((100, 1))], axis=1)
    target = np.tanh(source @ np.ones((2, 2)) * [1, -1])
    settings = Settings(steps=200)
    one, two = (joint_supremum(source, target, i, 1.0, settings) for i in (1, 2))
    assert one.shape == two.shape == (200, 2)
    assert one.max() <= np.log(100)
    assert two[-1].min() > 10 * np.log(100)
    assert two[-1].min() > 2 * two[100].min()


def test_a_unit_that_the_layer_lacks_is_refused():
    with pytest.raises(ValueError, match="unit 3 of a layer of 2"):
        joint_supremum(np.eye(2), np.eye(2), 3, 1.0, QUICK)


def test_arrays_and_settings_that_cannot_be_estimated_are_refused():
    x, z = normal_pairs(0.5, 1, rows=20)
    broken = x[0].copy()
    broken[3] = np.nan
    wrong = (
        ((([broken], z)), "an array x has NaN"),
        (([x[0][:, 0]], z), r"an array x has shape \(20,\); give x as \(n, columns\)"),
        ((x, [z[0][:, None]]), r"an array z has shape \(20, 1\)"),
    )
    for given, said in wrong:
        with pytest.raises(ValueError, match=said):
            estimate(*given, QUICK)
    with pytest.raises(ValueError, match="number of rows to learn from is 0"):
        estimate(x, z, QUICK, learn=np.arange(0))
    with pytest.raises(ValueError, match="batch is 1; give 2 or more"):
        Settings(batch=1)
    with torch.no_grad():
        assert np.isfinite(estimate(x, z, Settings(steps=2))).all()
