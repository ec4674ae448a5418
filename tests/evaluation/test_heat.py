"""On maps of four pixels, where the answer is counted by hand."""

import pytest
import torch

from milr.evaluation.heat import effective_heat_ratio, rank_accuracy

MASK = torch.tensor([[[True, True], [False, False]]])


def of(*values):
    return torch.tensor(values).reshape(1, 2, 2)


def test_the_largest_values_are_looked_for_in_the_mask():
    assert rank_accuracy(of(3.0, 2.0, 1.0, 0.0), MASK).item() == 1
    assert rank_accuracy(of(3.0, 0.0, 2.0, 1.0), MASK).item() == 0.5
    assert rank_accuracy(of(-3.0, -2.0, -1.0, 0.0), MASK).item() == 0


def test_equal_values_count_by_their_share():
    assert rank_accuracy(torch.ones(1, 2, 2), MASK).item() == pytest.approx(0.5)
    assert rank_accuracy(of(5.0, 1.0, 1.0, 1.0), MASK).item() == pytest.approx((1 + 1 / 3) / 2)


def test_an_image_without_the_part_is_no_number():
    assert rank_accuracy(torch.ones(1, 2, 2), torch.zeros(1, 2, 2)).isnan().all()


def test_heat_in_the_mask_alone_has_ratio_one_and_even_heat_the_area():
    assert effective_heat_ratio(of(2.0, 1.0, 0.0, -4.0), MASK).item() == pytest.approx(1)
    assert effective_heat_ratio(torch.ones(1, 2, 2), MASK).item() == pytest.approx(0.5)


def test_a_peak_in_the_mask_counts_more_than_the_sum_says():
    peaked = of(5.0, 1.0, 2.0, 2.0)
    assert 0.6 < effective_heat_ratio(peaked, MASK).item() < 1


def test_a_map_without_heat_is_no_number():
    assert effective_heat_ratio(-torch.ones(1, 2, 2), MASK).isnan().all()
