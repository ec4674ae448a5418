"""On maps whose answers follow from counting."""

import math

import pytest
import torch
import torch.nn.functional as F

from milr.evaluation import localisation as loc
from milr.evaluation.statistics import ratio_interval


@pytest.fixture
def masks():
    """Two images of 4 x 4: a part of 4 pixels, and one of 2."""
    masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[0, :2, :2] = True
    masks[1, 3, 2:] = True
    return masks


def test_maps_are_resized_as_torch_does_it():
    maps = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(maps[:, None], (11, 9), mode="bilinear", align_corners=False)[:, 0]
    assert torch.allclose(loc.resize(maps, (11, 9)).float(), expected, atol=1e-6)
    assert torch.equal(loc.resize(maps, (5, 7)), maps.double())


def test_a_constant_map_has_lift_one_at_any_resolution(masks):
    assert loc.lift(torch.full((2, 3, 3), 0.7), masks).value == pytest.approx(1)
    assert loc.lift(torch.full((2, 3, 3), -0.7), masks).per_image.tolist() == [
        pytest.approx(1),
        pytest.approx(1),
    ]


def test_a_map_on_the_part_alone_has_the_inverse_of_its_area_as_lift(masks):
    maps = masks.float()
    assert loc.lift(maps, masks).per_image.tolist() == pytest.approx([16 / 4, 16 / 2])


def test_lift_is_the_ratio_of_totals_and_not_the_mean_of_ratios(masks):
    maps = masks.float()
    maps[0] *= 3
    # Held on the parts: 12 and 2. Spread evenly: 12 * 4 / 16 and 2 * 2 / 16.
    assert loc.lift(maps, masks).value == pytest.approx(14 / (3 + 0.25))


def test_a_lift_has_an_interval_around_its_value():
    random = torch.Generator().manual_seed(0)
    masks = torch.rand(50, 8, 8, generator=random) < 0.3
    found = loc.lift(torch.rand(50, 8, 8, generator=random) + masks, masks)
    interval = ratio_interval(*found.pair)
    assert interval.value == pytest.approx(found.value)
    assert interval.low < found.value < interval.high
    assert found.value == pytest.approx(1.5 / 0.8, abs=0.05)


def test_lift_counts_negative_values_as_negative():
    maps = torch.tensor([[[4.0, -1.0], [1.0, 0.0]]])
    masks = torch.tensor([[[True, True], [False, False]]])
    assert loc.lift(maps, masks).value == pytest.approx((3 / 2) / (4 / 4))


def test_an_image_without_the_part_changes_no_lift(masks):
    more = torch.cat([masks, torch.zeros(1, 4, 4, dtype=torch.bool)])
    maps = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert loc.lift(maps, more).value == pytest.approx(loc.lift(maps[:2], masks).value)
    assert loc.lift(maps, more).per_image[2].isnan()


def test_a_part_that_no_image_has_is_refused():
    with pytest.raises(ValueError, match="parts that no image has"):
        _ = loc.lift(torch.ones(2, 4, 4), torch.zeros(2, 4, 4)).value


def test_signed_maps_that_cancel_are_refused(masks):
    maps = torch.ones(2, 4, 4)
    maps[:, :, ::2] = -1
    with pytest.raises(ValueError, match="clamp"):
        _ = loc.lift(maps, masks).value


def test_positive_share_ignores_negative_values(masks):
    maps = masks.float() - 5 * (~masks).float()
    assert loc.positive_share(maps, masks).value == 1
    assert loc.positive_share(-maps, masks).value == 0


def test_a_constant_map_has_the_area_as_positive_share(masks):
    share = loc.positive_share(torch.ones(2, 2, 2), masks)
    assert share.per_image.tolist() == pytest.approx([4 / 16, 2 / 16])
    assert share.value == pytest.approx(loc.area_share(masks).value) == 6 / 32


def test_pointing_sees_where_the_largest_value_is(masks):
    maps = torch.zeros(2, 4, 4)
    maps[0, 1, 1] = 1
    maps[1, 0, 0] = 1
    assert loc.pointing(maps, masks).tolist() == [1, 0]
    assert loc.pointing(torch.zeros(2, 4, 4), masks).tolist() == [4 / 16, 2 / 16]


def test_part_means_are_taken_by_label_and_absent_parts_are_nan():
    labels = torch.tensor([[[0, 0], [1, 2]], [[1, 1], [1, 1]]], dtype=torch.uint8)
    maps = torch.tensor([[[1.0, 3.0], [5.0, -7.0]], [[1.0, 2.0], [3.0, 6.0]]])
    means = loc.part_means(maps, labels, ("background", "beak", "tail"))
    assert means["beak"].tolist() == [5, 3]
    assert means["background"][0] == 2 and means["tail"][0] == -7
    assert means["background"][1].isnan() and means["tail"][1].isnan()


def test_a_label_without_a_name_is_refused():
    with pytest.raises(ValueError, match="a label 2 and 2 names"):
        loc.part_means(torch.ones(1, 1, 1), torch.full((1, 1, 1), 2), ("background", "beak"))


def test_the_strongest_part_is_chosen_among_the_candidates_that_are_there():
    labels = torch.tensor([[[0, 0], [1, 2]], [[1, 1], [1, 1]], [[0, 0], [0, 0]]])
    maps = torch.tensor([[[9.0, 9.0], [-3.0, -2.0]], *torch.ones(2, 2, 2).tolist()])
    names = ("background", "beak", "tail")
    assert loc.strongest_part(maps, labels, names) == ["background", "beak", "background"]
    assert loc.strongest_part(maps, labels, names, ("beak", "tail")) == ["tail", "beak", None]
    with pytest.raises(ValueError, match="no part claw; give some of background, beak, tail"):
        loc.strongest_part(maps, labels, names, ("claw",))


def test_box_masks_cover_as_much_as_the_boxes():
    boxes = torch.tensor([[1.0, 2.0, 3.0, 1.0], [0.5, 0.25, 1.0, 2.5], [3.0, 3.0, 9.0, 9.0]])
    masks = loc.box_masks(boxes, (6, 5))
    assert masks.sum(dim=(1, 2)).tolist() == pytest.approx([3, 2.5, 2 * 3])
    assert masks[0, 2].tolist() == [0, 1, 1, 1, 0]
    assert masks[1, 0, :3].tolist() == pytest.approx([0.5 * 0.75, 0.5 * 0.75, 0])


def test_discs_lie_around_visible_parts_only():
    parts = torch.tensor([[[5.0, 10.0, 1.0], [15.0, 15.0, 0.0]]])
    discs = loc.part_discs(parts, (20, 20), radius=0.15)
    assert not discs[0, 1].any()
    assert discs[0, 0].sum().item() == pytest.approx(math.pi * 9, rel=0.2)
    rows, columns = torch.nonzero(discs[0, 0], as_tuple=True)
    assert rows.double().mean() + 0.5 == 10 and columns.double().mean() + 0.5 == 5


def test_distances_are_those_of_the_maps_values_from_the_parts():
    maps = torch.zeros(1, 10, 20)
    maps[0, 2, 3] = 1  # centre of the pixel: x 3.5, y 2.5
    maps[0, 9, 19] = -8
    parts = torch.tensor([[[3.5, 2.5, 1.0], [6.5, 6.5, 1.0], [1.0, 1.0, 0.0]]])
    assert loc.distance_to_parts(maps, parts, (10, 20))[0, :2].tolist() == pytest.approx([0, 0.5])
    assert loc.distance_to_parts(maps, parts, (10, 20))[0, 2].isnan()
    corner = loc.distance_to_parts(-maps, parts, (10, 20))[0, 0]
    assert corner == pytest.approx(math.hypot(16, 7) / 10)
    assert loc.distance_to_parts(0 * maps, parts, (10, 20)).isnan().all()


def test_as_many_masks_as_maps_are_needed(masks):
    with pytest.raises(ValueError, match="3 maps and 2 masks"):
        loc.lift(torch.ones(3, 4, 4), masks)


def test_a_finer_map_is_averaged_and_not_sampled():
    maps = torch.zeros(1, 64, 64)
    maps[0, 17, 33] = 1.0
    masks = torch.zeros(1, 8, 8, dtype=torch.bool)
    masks[0, 1:4, 3:6] = True
    assert loc.positive_share(maps, masks).value == pytest.approx(1)
    assert loc.pointing(maps, masks).item() == 1


def test_several_equally_strong_parts_are_none_and_not_the_first():
    labels = torch.tensor([[[0, 0], [1, 2]]])
    parts = ["background", "beak", "tail"]
    for candidates in (None, ["beak", "tail"], ["tail", "beak"]):
        assert loc.strongest_part(torch.zeros(1, 2, 2), labels, parts, candidates) == [None]
    tied = torch.tensor([[[0.0, 0.0], [3.0, 3.0]]])
    assert loc.strongest_part(tied, labels, parts) == [None]
    assert loc.strongest_part(tied, labels, parts, ["background", "tail"]) == ["tail"]


def test_an_image_without_the_part_has_no_ratio_of_its_own():
    found = loc.Ratio(torch.tensor([1.0, 1.0, 0.0]), torch.tensor([2.0, 0.0, 0.0])).per_image
    assert found[0] == 0.5 and found[1:].isnan().all()
