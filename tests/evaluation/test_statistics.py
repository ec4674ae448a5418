"""Intervals against what theory says they must be."""

import numpy as np
import pytest
from scipy import stats

from milr.evaluation import statistics as st


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(3, 2, size=400)


def test_an_interval_prints_its_value_and_bounds():
    interval = st.Interval(0.945, 0.94, 0.95)
    assert str(interval) == "0.945 [0.940, 0.950]"
    assert f"{interval:.1f}" == "0.9 [0.9, 0.9]"
    assert f"{interval:.1%}" == "94.5% [94.0%, 95.0%]"
    assert 0.941 in interval and 0.96 not in interval


def test_the_mean_interval_is_the_normal_one():
    interval = st.mean_interval([1.0, 2.0, 3.0, 6.0])
    half = 1.959964 * np.sqrt(14 / 3) / 2
    assert (interval.value, interval.low, interval.high) == pytest.approx((3, 3 - half, 3 + half))
    narrower = st.mean_interval([1.0, 2.0, 3.0, 6.0], level=0.5)
    assert narrower.high - 3 == pytest.approx(half * 0.6744898 / 1.959964)


def test_the_mean_interval_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(1)
    draws = random.binomial(5, 0.8, size=(2000, 100)) / 5
    covered = np.mean([0.8 in st.mean_interval(row) for row in draws])
    assert 0.925 < covered < 0.97


def test_an_error_over_few_groups_covers_the_truth_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(0.8, 0.1, (2000, 4))
    errors = draws.std(1, ddof=1) / 2
    rows = zip(draws.mean(1), errors, strict=True)
    covered = np.mean([0.8 in st.of_error(mean, error, 4) for mean, error in rows])
    assert covered == pytest.approx(0.95, abs=0.015)


def test_the_bootstrap_of_a_mean_is_as_wide_as_theory_says(values):
    interval = st.bootstrap(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.08)


def test_the_bootstrap_of_a_median_is_as_wide_as_theory_says(values):
    interval = st.bootstrap(values, np.median)
    half = 1.96 * np.sqrt(np.pi / 2) * 2 / np.sqrt(len(values))
    assert interval.value == np.median(values)
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.3)


def test_the_bootstrap_repeats_with_its_seed(values):
    assert st.bootstrap(values, seed=3) == st.bootstrap(values, seed=3)
    assert st.bootstrap(values, seed=3) != st.bootstrap(values, seed=4)


def test_a_ratio_is_drawn_with_numerators_and_denominators_together(values):
    weights = np.random.default_rng(1).uniform(1, 9, size=400)
    exact = st.ratio_interval(2 * weights, weights)
    assert (exact.value, exact.low, exact.high) == pytest.approx((2, 2, 2))
    found = st.ratio_interval(values * weights, weights)
    ratio = (values * weights).sum() / weights.sum()
    assert found.value == pytest.approx(ratio)
    # The delta method: the spread of (numerator - ratio * denominator) / mean denominator.
    half = 1.96 * ((values - ratio) * weights).std() / weights.mean() / np.sqrt(400)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)


def test_one_seed_of_each_leaves_the_spread_of_the_images(values):
    nested = st.hierarchical(values[None, None])
    plain = st.bootstrap(values)
    assert nested.value == plain.value
    assert nested.high - nested.low == pytest.approx(plain.high - plain.low, rel=0.1)


def test_the_spread_of_model_seeds_enters_the_interval():
    effects = np.linspace(-1, 1, 10)
    values = np.broadcast_to(effects[:, None, None], (10, 3, 50))
    interval = st.hierarchical(values)
    half = 1.96 * effects.std() / np.sqrt(10)
    assert interval.value == pytest.approx(0)
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.1)


def test_the_spread_of_explainer_seeds_averages_over_the_models():
    effects = np.linspace(-1, 1, 10)
    values = np.broadcast_to(effects[None, :, None], (4, 10, 50))
    interval = st.hierarchical(values)
    half = 1.96 * effects.std() / np.sqrt(4 * 10)
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.1)


def test_images_are_the_same_for_all_seeds_of_a_resample(values):
    """Seeds that agree on every image must not make the images count several times."""
    many = st.hierarchical(np.broadcast_to(values, (3, 3, 400)))
    one = st.hierarchical(values[None, None])
    assert many.high - many.low == pytest.approx(one.high - one.low, rel=0.1)


def test_a_hierarchical_ratio_takes_both_arrays(values):
    weights = np.random.default_rng(1).uniform(1, 9, size=(2, 3, 400))
    interval = st.hierarchical((0.5 * weights, weights), st.ratio, resamples=100)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.5, 0.5, 0.5))


def test_pairs_are_compared_image_by_image(values):
    """A small steady advantage shows, though it is far below the spread of the values."""
    steady = st.paired(values + 0.01, values)
    assert steady.difference.value == pytest.approx(0.01)
    assert 0 not in steady.difference
    assert (steady.wins, steady.ties, steady.count) == (400, 0, 400)
    mixed = st.paired([1, 2, 3, 4], [1, 1, 4, 3])
    assert (mixed.wins, mixed.ties, mixed.count) == (2, 1, 4)
    assert "larger on 2 of 4 (1 ties)" in str(mixed)


def test_rank_correlation_is_spearmans():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 30))
    assert st.rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert st.rank_correlation(a, np.exp(a)) == pytest.approx(1)
    assert st.rank_correlation(a, -(a**3)) == pytest.approx(-1)


def test_an_interval_of_rank_correlation_is_of_resamples_of_the_pairs():
    rng = np.random.default_rng(3)
    a = rng.integers(0, 6, 25)  # with ties
    b = a + rng.normal(0, 2, 25)
    found = st.rank_interval(a, b)
    drawn = [rng.integers(0, 25, 25) for _ in range(2000)]
    ends = np.quantile([stats.spearmanr(a[k], b[k]).statistic for k in drawn], [0.025, 0.975])
    assert found.value == pytest.approx(stats.spearmanr(a, b).statistic)
    assert [found.low, found.high] == pytest.approx(ends, abs=0.04)
    with pytest.raises(ValueError, match="at least 2"):
        st.rank_interval([1.0], [2.0])


def test_rank_correlation_of_tables_leaves_out_what_is_absent():
    a = np.array([[1, 2, 3, np.nan], [1, 2, np.nan, np.nan], [1, 1, 1, 1], [4, 3, 2, 1.0]])
    b = np.array([[1, 2, 3, 0.0], [1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]])
    found = st.rank_correlation(a, b)
    assert found[[0, 3]].tolist() == pytest.approx([1, -1])
    assert np.isnan(found[[1, 2]]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: st.bootstrap([1.0]), r"shape \(1,\)"),
        (lambda: st.bootstrap([1.0, np.nan, 2.0]), "1 of 3 values are not finite"),
        (lambda: st.mean_interval([[1.0, 2.0]]), "give"),
        (lambda: st.hierarchical([1.0, 2.0]), "model seeds, explainer seeds, images"),
        (lambda: st.hierarchical(np.full((1, 1, 3), np.nan)), "not finite"),
        (lambda: st.paired([1, 2, 3], [1, 2]), "3 values and 2"),
        (lambda: st.mean_interval([1.0, 2.0], level=95), "level is 95; give a share between 0 and"),
        (lambda: st.bootstrap([1.0, 2.0], level=95), "level is 95"),
        (lambda: st.hierarchical(np.ones((1, 1, 3)), level=1.0), "level is 1.0"),
        (lambda: st.paired([1, 2], [1, 2], level=0), "level is 0"),
        (lambda: st.of_error(1.0, 0.1, 4, level=95), "level is 95"),
        (lambda: st.of_error(1.0, 0.1, 1), "count is 1; give 2 or more"),
        (lambda: st.rank_correlation([1, 2, 3], [1, 2]), "differ"),
    ],
)
def test_what_gives_no_interval_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_part_that_few_images_have_gets_an_interval_of_the_draws_that_have_it(recwarn):
    mass, area = np.zeros(6), np.zeros(6)
    mass[:2], area[:2] = (0.3, 0.5), (1.0, 1.0)
    found = st.ratio_interval(mass, area)
    assert (found.value, found.low, found.high) == pytest.approx((0.4, 0.3, 0.5))
    assert not list(recwarn)


def test_a_ratio_by_what_adds_up_to_less_than_0_is_refused():
    down = np.full(20, -1.0)
    assert np.isnan(st.ratio(down, down))
    with pytest.raises(ValueError, match="denominators add up to -20"):
        st.ratio_interval(6 * down, down)


def test_no_draw_turns_the_sign_of_a_ratio_round():
    # Of few denominators some draws add up to less than 0, where the ratio would be negative.
    bottom = np.array([-3.0, 1.0, 1.0, 1.0, 1.0])
    found = st.ratio_interval(np.ones(5), bottom)
    assert found.value == 5 and found.low > 0
