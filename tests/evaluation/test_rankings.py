import numpy as np
import pytest

from milr.evaluation import rankings

RAW = np.array([0.4, 0.3, 0.2, 0.1])


def test_the_posters_table_comes_out():
    apart = rankings.kolmogorov_smirnov(RAW, RAW + 5)
    assert apart.statistic == 1.0
    assert apart.many == pytest.approx(0.0111, abs=1e-4)  # printed as 0.011
    assert apart.exact == pytest.approx(2 / 70)  # two of the 70 ways to choose four of eight
    three = rankings.kolmogorov_smirnov(RAW, np.array([0.15, 5, 6, 7]))
    assert (three.statistic, three.many) == pytest.approx((0.75, 0.1075), abs=1e-4)
    assert three.exact == pytest.approx(0.2286, abs=1e-4)


def test_the_test_is_blind_to_which_feature_has_which_value():
    assert rankings.kolmogorov_smirnov(RAW[::-1], RAW).statistic == 0
    assert rankings.kolmogorov_smirnov(100 * RAW, RAW).statistic == 1


def test_shares_have_no_unit():
    assert rankings.shares(100 * RAW) == pytest.approx(RAW)
    assert rankings.shares(np.zeros((2, 3))).tolist() == [[0, 0, 0]] * 2


def test_rankings_are_said_with_ties():
    assert rankings.ranked(np.array([1.0, 3.0, 3.0]), ("a", "b", "c")) == "b = c > a"


def test_small_values_are_told_apart_and_what_has_no_sum_stays():
    assert rankings.ranked(np.array([3e-9, 1e-9, 0.0]), ("a", "b", "c")) == "a > b > c"
    down = np.array([-0.2, -0.3])
    assert rankings.shares(down).tolist() == down.tolist()
