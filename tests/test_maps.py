import pytest
import torch
from torch import nn

from milr.maps import Maps, concatenate


@pytest.fixture
def maps():
    total = torch.tensor([[[1.0, -1.0], [0.5, 3.0]]])
    return Maps(total, torch.full((1, 2, 2), 0.75), torch.ones(1, 2, 2), ceiling=3.0)


def test_redundant_is_the_signed_difference(maps):
    assert maps.redundant.tolist() == [[[0.25, -1.75], [-0.25, 2.25]]]
    assert maps.negative_share == 0.5


def test_saturation_is_said_near_the_ceiling_only(maps):
    assert maps.saturated
    assert not Maps(maps.total / 2, maps.decision, maps.capacity, 3.0).saturated


def test_resizing_keeps_the_redundant_map_a_difference(maps):
    large = maps.resized(8)
    assert large.total.shape == (1, 8, 8)
    torch.testing.assert_close(large.redundant, large.total - large.decision)
    constant = maps.resized(5).decision
    torch.testing.assert_close(constant, torch.full((1, 5, 5), 0.75))


def test_a_value_stands_where_its_location_looks():
    peak = torch.zeros(1, 5, 5)
    peak[0, 2, 3] = 1.0
    # A padded convolution with stride 4 has location i at pixel 4 i.
    large = Maps(peak, peak, peak, 3.0, offset=(0.125, 0.125)).resized(20)
    assert large.total[0].argmax() == 8 * 20 + 12 and large.total.max() == 1
    assert large.offset == (0.5, 0.5) and large.resized(20).total is large.total
    torch.testing.assert_close(large.total[0, 8, 9:16], torch.tensor([1, 2, 3, 4, 3, 2, 1]) / 4)
    even = Maps(peak, peak, peak, 3.0).resized(20).total
    expected = nn.functional.interpolate(peak[:, None], 20, mode="bilinear")[:, 0]
    torch.testing.assert_close(even, expected)


def test_down_and_across_have_offsets_of_their_own():
    peak = torch.zeros(1, 5, 3)
    peak[0, 2, 1] = 1.0
    # Pixels are at (i + offset) * 4 - 1/2: 8 down, and between 6 and 7 across.
    large = Maps(peak, peak, peak, 3.0, offset=(0.125, 0.75)).resized((20, 12)).total[0]
    assert large.argmax() // 12 == 8 and large[8].argsort(descending=True)[:2].sort()[
        0
    ].tolist() == [6, 7]


def test_maps_of_tokens_have_no_other_resolution():
    tokens = Maps(*(torch.zeros(2, 5) for _ in range(3)), ceiling=1.0)
    with pytest.raises(ValueError, match=r"shape \(2, 5\) are of tokens"):
        tokens.resized(8)


def test_maps_are_joined_and_taken_apart_in_order(maps):
    other = Maps(maps.total + 1, maps.decision, maps.capacity, 3.0)
    both = concatenate([maps, other])
    assert len(both) == 2
    torch.testing.assert_close(both[1:].total, other.total)
