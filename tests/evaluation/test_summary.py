"""Scores whose intervals and wins follow from how they were made."""

import numpy as np
import pytest
import torch

from milr.evaluation.localisation import Ratio
from milr.evaluation.statistics import hierarchical
from milr.evaluation.summary import Resamples, Score, best, marks, score, standing


def drawn(shape, seed=0, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1, shape)


def mean_of(values):
    return Score(values, np.ones_like(values))


def test_a_mean_has_the_interval_of_the_bootstrap_over_seeds_and_images():
    values = drawn((3, 2, 40), shift=1.0)
    found = Resamples(3, 2, 40).interval(mean_of(values))
    expected = hierarchical(values, resamples=1000)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(expected.low, abs=0.05)
    assert found.high == pytest.approx(expected.high, abs=0.05)


def test_images_of_each_network_alone_are_drawn_within_it():
    """What they do is in the spread between networks, too: hence sqrt(5 / 3), not sqrt(7 / 3),
    times the width that images of independent noise make."""
    widths = {True: [], False: []}
    for seed in range(30):
        noise = mean_of(drawn((3, 1, 60), seed=seed))
        for own, found in widths.items():
            interval = Resamples(3, 1, 60, seed=seed, own_images=own).interval(noise)
            found.append(interval.high - interval.low)
    exact = 2 * 1.96 / np.sqrt(3 * 60)
    assert np.mean(widths[True]) / exact == pytest.approx((5 / 3) ** 0.5, rel=0.08)
    assert np.mean(widths[False]) / exact == pytest.approx((7 / 3) ** 0.5, rel=0.08)


def test_what_networks_differ_by_is_in_the_interval_of_own_images_too():
    values = drawn((3, 1, 60)) + np.array([-9.0, 0, 9]).reshape(3, 1, 1)
    found = Resamples(3, 1, 60, own_images=True).interval(mean_of(values))
    assert found.low < -7 and found.high > 7


def test_images_without_the_part_do_not_count():
    ratio = Ratio(torch.tensor([2.0, 0, 4, 2, 4]), torch.tensor([1.0, 0, 1, 1, 1]))
    mean = torch.tensor([3.0, torch.nan, 5, 3, 5])
    assert score([[ratio]]).value == 3
    assert score([[mean]]).value == 4
    paired = Resamples(1, 1, 5).difference(score([[mean]]), score([[ratio]]))
    assert (paired.wins, paired.ties, paired.count) == (4, 0, 4)


def test_a_paired_difference_is_narrower_than_the_methods_own_intervals():
    common = 5 * drawn((1, 1, 60))
    one, other = mean_of(common + 1), mean_of(common + 0.1 * drawn((1, 1, 60), seed=1))
    resamples = Resamples(1, 1, 60)
    paired = resamples.difference(one, other)
    own = resamples.interval(one)
    assert paired.wins == 60
    assert paired.difference.high - paired.difference.low < 0.1 * (own.high - own.low)
    assert paired.difference.low > 0.9


def test_a_method_without_explainers_is_compared_with_each_of_them():
    peer, own = mean_of(np.zeros((2, 1, 5))), mean_of(np.ones((2, 3, 5)))
    paired = Resamples(2, 3, 5).difference(own, peer)
    assert (paired.wins, paired.count) == (30, 30)
    assert paired.difference.value == 1


def test_scores_of_one_explainer_count_each_image_once_where_others_have_more():
    values = np.array([[[0.0, 1, 1, 2]], [[3, 1, 0, 1]]])
    resamples = Resamples(2, 3, 4)
    paired = resamples.difference(mean_of(values), mean_of(np.ones((2, 1, 4))))
    assert (paired.wins, paired.ties, paired.count) == (2, 4, 8)
    same = Resamples(2, 1, 4).difference(mean_of(values), mean_of(np.ones((2, 1, 4))))
    assert paired.difference.value == same.difference.value


def test_where_no_image_counts_there_is_no_value():
    nothing = score([[torch.full((4,), torch.nan)]])
    assert np.isnan(nothing.value)
    assert Resamples(1, 1, 4).interval(nothing) is None


def test_a_ratio_whose_denominators_cancel_says_nothing():
    noise = drawn((1, 1, 50))
    assert Resamples(1, 1, 50).interval(Score(np.ones((1, 1, 50)), noise)) is None
    assert Resamples(1, 1, 50).interval(Score(np.ones((1, 1, 50)), noise + 5)) is not None


def test_the_best_is_taken_among_those_that_have_a_value():
    scores = {
        "low": mean_of(np.zeros((1, 1, 9))),
        "high": mean_of(np.ones((1, 1, 9))),
        "undefined": Score(np.ones((1, 1, 9)), -np.ones((1, 1, 9))),
    }
    resamples = Resamples(1, 1, 9)
    assert best(scores, True, resamples) == "high"
    assert best(scores, False, resamples) == "low"


def test_who_cannot_be_told_from_the_first_is_tied_and_who_has_no_value_is_not_placed():
    common = drawn((1, 1, 80), shift=2.0)
    scores = {
        "first": mean_of(common + 0.01),
        "near": mean_of(common + drawn((1, 1, 80), seed=3)),
        "far": mean_of(common - 1),
        "undefined": Score(np.ones((1, 1, 80)), -np.ones((1, 1, 80))),
    }
    scores["near"] = mean_of(scores["near"].numerators - scores["near"].value + common.mean())
    resamples = Resamples(1, 1, 80)
    expected = {"first": "best", "near": "tied", "far": "", "undefined": ""}
    assert marks(scores, True, resamples) == expected
    far = standing("far", scores, True, resamples)
    assert far.first == "first" and not far.within
    assert far.difference.difference.value == pytest.approx(-1.01) and far.difference.wins == 0
    assert standing("undefined", scores, True, resamples) is None


def test_all_with_the_best_score_are_first():
    hits = {"a": [1.0, 0, 1, 1], "b": [1.0, 1, 1, 0], "c": [1.0, 0, 1, 0]}
    scores = {name: mean_of(np.array([[row]])) for name, row in hits.items()}
    found = marks(scores, True, Resamples(1, 1, 4))
    assert found == {"a": "best", "b": "best", "c": "tied"}


def test_a_method_gains_nothing_on_images_for_which_it_does_not_count():
    hard, easy = [0.1] * 5, [0.95] * 5
    nothing = score([[torch.tensor([0.9] * 5 + [torch.nan] * 5)]])
    both = score([[torch.tensor(easy + hard)]])
    resamples = Resamples(1, 1, 10)
    assert nothing.value > both.value
    found = resamples.difference(nothing, both)
    assert found.difference.value == pytest.approx(-0.05) and found.wins == 0 and found.count == 5
    assert marks({"nothing": nothing, "both": both}, True, resamples)["both"] == ""
    rows = {"nothing": both, "both": nothing}
    assert standing("nothing", rows, True, resamples).difference.difference.high > 0


def test_draws_that_say_nothing_lie_beyond_both_ends():
    # The denominators add up to a little more than 0, and in a few draws to less.
    bottom = np.array([-3.0, *np.linspace(0.9, 1.1, 19)])[None, None]
    one = Score(np.ones_like(bottom), bottom)
    resamples = Resamples(1, 1, 20)
    drawn = resamples.values(one)
    lost = np.isnan(drawn).mean()
    assert 0 < lost < 0.02
    found = resamples.interval(one)
    assert found.high > np.nanquantile(drawn, 0.975) and found.low < np.nanquantile(drawn, 0.025)
    worse = Score(np.ones_like(bottom), np.array([-9.0] + [1.0] * 19)[None, None])
    assert resamples.interval(worse) is None


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 5), (2, 3, 5)])
def test_scores_of_other_images_or_explainers_are_refused(shape):
    with pytest.raises(ValueError, match=r"shape .* resamples are of \(1, 3, 5\)"):
        Resamples(1, 3, 5).interval(mean_of(np.ones(shape)))
