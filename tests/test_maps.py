import pytest
import torch

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


def test_maps_of_tokens_have_no_other_resolution():
    tokens = Maps(*(torch.zeros(2, 5) for _ in range(3)), ceiling=1.0)
    with pytest.raises(ValueError, match=r"shape \(2, 5\) are of tokens"):
        tokens.resized(8)


def test_maps_are_joined_and_taken_apart_in_order(maps):
    other = Maps(maps.total + 1, maps.decision, maps.capacity, 3.0)
    both = concatenate([maps, other])
    assert len(both) == 2
    torch.testing.assert_close(both[1:].total, other.total)
