import math

import numpy as np
import pytest
import torch
from torch import nn

from milr.maps import Maps, concatenate, resize, shared


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
    assert maps.redundant.min() < 0
    spare = Maps(maps.redundant, maps.decision, maps.capacity, 3.0).resized(8).total
    torch.testing.assert_close(large.redundant, spare)
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


def test_maps_that_were_read_otherwise_are_not_joined(maps):
    other = Maps(maps.total, maps.decision, maps.capacity, maps.ceiling + 1)
    with pytest.raises(ValueError, match="several ceilings or offsets"):
        concatenate([maps, other])


def test_sharing_out_is_by_the_ratio_to_what_is_known_around():
    generator = torch.Generator().manual_seed(0)
    maps, total = torch.rand(2, 1, 9, 9, generator=generator)
    width, reach = 0.8, 2
    weights = [math.exp(-(d**2) / (2 * width**2)) for d in range(-reach, reach + 1)]
    known = total[0] ** 3 + 1e-3 * (total[0] ** 3).mean()
    # At a place that is far from the edges, written out.
    around = sum(
        a * b / sum(weights) ** 2 * float(known[4 + i - reach, 3 + j - reach])
        for i, a in enumerate(weights)
        for j, b in enumerate(weights)
    )
    expected = float(maps[0, 4, 3]) * float(known[4, 3]) / around
    found = shared(maps, total, width, power=3)
    assert float(found[0, 4, 3]) == pytest.approx(expected, rel=1e-5)


def test_what_is_known_evenly_changes_nothing_and_power_0_heeds_nothing():
    maps = torch.randn(2, 12, 40, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(shared(maps, torch.full_like(maps, 0.3), 1.5), maps)
    torch.testing.assert_close(shared(maps, torch.rand_like(maps), 1.5, power=0), maps)
    torch.testing.assert_close(shared(maps, torch.zeros_like(maps), 1.5), maps)
    # Also where little is known beside a place at which much is.
    uneven = torch.full_like(maps, 0.01)
    uneven[:, :, 20:] = 1.0
    found = shared(maps, uneven, 1.5)
    torch.testing.assert_close(found[:, :, :15], maps[:, :, :15])
    torch.testing.assert_close(found[:, :, 25:], maps[:, :, 25:])


def test_a_place_that_knows_more_than_its_neighbours_stands_out():
    maps, total = torch.ones(1, 21, 21), torch.full((1, 21, 21), 0.1)
    total[0, 10, 10] = 1.0
    found = shared(maps, total, 2.0)[0]
    assert found.argmax() == 10 * 21 + 10 and found[10, 10] > 5
    assert found[10, 11] < 0.5 and abs(float(found[0, 0]) - 1) < 0.05
    # A place has no value but its own: what is 0 stays 0.
    none = torch.ones(1, 21, 21)
    none[0, 10, 10] = 0
    assert shared(none, total, 2.0)[0, 10, 10] == 0
    # Down and across alike, on maps that are not square, also for a window beyond their edges.
    wide = shared(torch.ones(1, 3, 21), total[:, 9:12], 2.0)[0]
    assert wide.isfinite().all() and wide.argmax() == 21 + 10


def test_sharing_out_heeds_no_unit_of_the_total():
    maps, total = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(2))
    expected = shared(maps, total, 1.5)
    for unit in (1e-25, 1e25):
        torch.testing.assert_close(shared(maps, total * unit, 1.5), expected)
    assert shared(maps[:0], total[:0], 1.5).shape == (0, 9, 9)


def test_sharing_out_says_what_it_cannot_take():
    good = torch.ones(1, 4, 4)
    with pytest.raises(ValueError, match=r"\(1, 4, 4\) and the total \(1, 2, 2\)"):
        shared(good, good[:, :2, :2], 1.0)
    with pytest.raises(ValueError, match='between -1 and -1; .*reading="surprise"'):
        shared(good, -good, 1.0)
    for broken in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match=f"and {broken}; give finite numbers"):
            shared(good, good * broken, 1.0)
    with pytest.raises(ValueError, match="width is 0"):
        shared(good, good, 0)
    with pytest.raises(ValueError, match="power is -1"):
        shared(good, good, 1.0, -1)


def test_the_maps_of_one_image_are_still_maps():
    total = torch.rand(3, 4, 4)
    for index in (1, np.int64(1)):
        one = Maps(total, total, total, 3.0)[index]
        assert one.total.shape == (1, 4, 4) and len(one) == 1
    assert torch.equal(one.resized(8).total, Maps(total, total, total, 3.0).resized(8).total[1:2])


def test_an_index_leaves_the_images_first():
    whole = Maps(*(torch.rand(4, 5, 6) for _ in range(3)), ceiling=7.0)
    for index in (torch.tensor(1), np.int64(1), 1):
        assert torch.equal(whole[index].total, whole.total[1:2])
    assert whole[:, 1:].total.shape == (4, 4, 6)
    for index in (None, True, (..., 0), (0, 1)):
        with pytest.raises(ValueError, match="no maps of images any more"):
            whole[index]


def test_a_size_that_is_none_is_refused():
    maps = Maps(*(torch.rand(4, 5, 6) for _ in range(3)), ceiling=7.0)
    for size in (0, -3, 2.5, None, "8", (3, 9, 9), (9.5, 9), (8, math.inf)):
        with pytest.raises(ValueError, match=r"give \(height, width\) in pixels"):
            maps.resized(size)
    assert maps.resized((9.0, 8)).total.shape == (4, 9, 8)
    with pytest.raises(ValueError, match="are of tokens"):
        resize(torch.rand(4, 5), 9)
