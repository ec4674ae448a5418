"""What signals are worth, where it can be computed by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from milr.estimators.result import Estimate
from milr.evaluation import signals


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_effect_of_a_pixel_is_the_drop_of_the_choice():
    """Two classes, the first one's logit is pixel 0 alone: nothing else has an effect."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    model[1].weight.data = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]])
    images = torch.tensor([[[[2.0, 5.0], [1.0, 3.0]]]])
    found = signals.pixel_effects(model, images, torch.zeros(1, 2, 2))
    drop = -math.log1p(math.exp(-2.0)) + math.log(2)
    assert found[0, 0, 0].item() == pytest.approx(drop)
    assert found.flatten()[1:].tolist() == [0.0, 0.0, 0.0]


def test_distance_is_of_directions_and_between_0_and_2():
    maps = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]], [[1.0, 0.0]], [[0.0, 0.0]]])
    others = torch.tensor([[[5.0, 0.0]], [[0.0, 3.0]], [[-2.0, 0.0]], [[0.0, 0.0]]])
    found = signals.class_distance(maps, others)
    assert found.tolist() == pytest.approx([0.0, math.sqrt(2), 2.0, math.nan], nan_ok=True)


def test_two_classes_always_differ():
    a, b = signals.two_classes(200, 3)
    assert (a != b).all() and set(a.tolist()) == set(b.tolist()) == {0, 1, 2}
    assert all(map(torch.equal, (a, b), signals.two_classes(200, 3)))


def test_choice_is_one_hot_and_its_entropy_that_of_the_shares():
    outputs = torch.tensor([[3.0, 1.0], [0.0, 2.0], [5.0, 4.0], [9.0, 0.0]])
    assert signals.most_likely(outputs).tolist() == [[1, 0], [0, 1], [1, 0], [1, 0]]
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert signals.entropy(outputs.argmax(1)) == pytest.approx(expected)


def test_normal_ceiling_is_met_by_a_normal_and_may_be_negative():
    assert signals.normal_ceiling(2.0, 2) == pytest.approx(0.5 * math.log(2 * math.pi * math.e))
    assert signals.normal_ceiling(0.01, 1) < 0
    with pytest.raises(ValueError, match="above 0"):
        signals.normal_ceiling(0.0, 3)


def test_fano_ceiling_ends_at_0_and_at_knowing_nothing():
    assert signals.fano_ceiling(0.0, 10) == 0.0
    assert signals.fano_ceiling(0.9, 10) == pytest.approx(math.log(10))
    with pytest.raises(ValueError, match="2 or more classes"):
        signals.fano_ceiling(0.1, 1)


def test_information_in_leading_columns_is_a_bound_from_below():
    """A bit in a's first column of forty, and in b: log 2 at most, most of it is found."""
    bit = (draw(600) > 0).float()
    a = 0.1 * draw(600, 40, seed=1)
    a[:, 0] += 4 * bit
    found = signals.information(a, bit[:, None], columns=2, steps=150, batch=64)
    assert 0.5 < found.value < math.log(2) + 0.05


def test_pooled_errors_have_those_of_estimates_and_their_spread():
    alone = signals.pooled([Estimate(1.0, 0.1, "lower bound")])
    assert alone.high - alone.value == pytest.approx(0.196)
    both = signals.pooled([Estimate(v, 0.0, "lower bound") for v in (1.0, 3.0)])
    assert both.value == 2 and both.high - both.value == pytest.approx(12.706, abs=1e-3)


def test_a_linear_reader_finds_outputs_that_are_in_the_signal():
    draw = torch.Generator().manual_seed(0)
    outputs = torch.randn(300, 4, generator=draw)
    made = (outputs @ torch.randn(4, 20, generator=draw) + 1.0).reshape(300, 4, 5)
    read = signals.linear_reader(made[:200], outputs[:200])
    assert torch.allclose(read(made[200:]).float(), outputs[200:], atol=1e-4)


def test_joined_features_are_rows():
    assert signals.joined([torch.ones(3, 2), torch.ones(3, 2, 2)]).shape == (3, 6)


def test_columns_of_rounding_are_no_components():
    draw = np.random.default_rng(0)
    few = draw.normal(size=(200, 3)).astype(np.float32)
    wide = few @ draw.normal(size=(3, 400)).astype(np.float32) + 5
    assert signals._leading(wide, 24).shape == (200, 3)
    ten = draw.normal(size=(10, 784)).astype(np.float32)[draw.integers(10, size=4000)]
    assert signals._leading(ten, 24).shape == (4000, 9)
    assert signals._leading(draw.normal(size=(200, 400)), 24).shape == (200, 24)
