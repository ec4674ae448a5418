"""On maps whose answers follow from counting."""

import pytest
import torch

from milr.evaluation import explained
from milr.maps import Maps

NAMES = ("background", "tail", "beak")


@pytest.fixture
def labels():
    """Two images of 4 x 4: 4 pixels of tail in both, 2 of beak in the first alone."""
    labels = torch.zeros(2, 4, 4, dtype=torch.uint8)
    labels[:, :2, :2] = 1
    labels[0, 3, 2:] = 2
    return labels


@pytest.fixture
def masks(labels):
    regions = {"tail": ("tail",), "beak": ("beak",), "bird": ("tail", "beak")}
    return explained.region_masks(labels, NAMES, regions)


def maps_of(total, decision):
    return Maps(total, decision, decision.clamp(min=0), ceiling=5.0)


def test_a_region_is_the_union_of_its_parts(masks):
    assert torch.equal(masks["bird"], masks["tail"] | masks["beak"])
    assert masks["bird"].sum((1, 2)).tolist() == [6, 4]


def test_a_region_that_no_image_has_is_left_out(labels):
    found = explained.region_masks(labels[1:], NAMES, {"tail": ("tail",), "beak": ("beak",)})
    assert list(found) == ["tail"]


def test_an_unknown_part_is_named(labels):
    with pytest.raises(ValueError, match="no part crest; give some of background, tail, beak"):
        explained.region_masks(labels, NAMES, {"crest": ("crest",)})


def test_a_map_on_one_part_has_the_inverse_of_its_area_as_lift(labels, masks):
    decision = (labels == 1).float()
    found = explained.measures(maps_of(torch.ones(2, 4, 4), decision), masks)
    assert found["decision.lift.tail"].value == pytest.approx(4)
    assert found["decision.lift.beak"].value == 0
    assert found["decision.bits.tail"].value == pytest.approx(1)
    assert found["decision.pointing.tail"].value == 1
    assert found["total.lift.tail"].value == pytest.approx(1)


def test_negative_values_count_for_lift_and_not_for_energy(labels, masks):
    total = torch.where(labels == 1, 1.0, -0.1)
    found = explained.measures(maps_of(total, torch.zeros(2, 4, 4)), masks)
    assert found["total.energy.tail"].value == pytest.approx(4)
    assert found["total.mass.tail"].value == pytest.approx(1)
    assert found["total.mass.beak"].value == 0
    assert found["total.lift.tail"].value == pytest.approx(1 / ((4 - 1.2) / 16))
    assert found["redundant.negative"].value == pytest.approx(12 / 16)


def test_the_redundant_share_is_what_the_decision_leaves_of_the_total(labels, masks):
    total, decision = torch.full((2, 4, 4), 2.0), torch.where(labels == 2, 1.5, 0.5)
    found = explained.measures(maps_of(total, decision), masks)
    assert found["redundant.share.tail"].value == pytest.approx(0.75)
    assert found["redundant.share.beak"].value == pytest.approx(0.25)


def test_a_share_of_a_negative_total_is_not_defined(labels, masks):
    total = torch.where(labels == 1, -1.0, 1.0)
    found = explained.measures(maps_of(total, torch.zeros(2, 4, 4)), masks)
    assert not explained.is_defined([[found]], "redundant.share.tail")
    assert explained.is_defined([[found]], "redundant.share.beak")


def test_a_share_that_few_images_have_to_hold_up_is_not_defined(labels, masks):
    # The totals add up to a little more than 0, and in many draws of the images to less.
    tail = (labels[:1] == 1).float()
    total = torch.cat([4 * tail, -tail, -tail, -tail])
    mask = {"tail": (labels[:1] == 1).expand(4, -1, -1)}
    found = explained.measures(maps_of(total, torch.zeros_like(total)), mask)
    assert found["redundant.share.tail"].denominators.sum() > 0
    assert not explained.is_defined([[found]], "redundant.share.tail")


def test_measures_of_a_negative_total_have_no_interval(labels, masks):
    total = torch.where(labels == 1, -1.0, 1.0)
    found = explained.measures(maps_of(total, torch.zeros(2, 4, 4)), masks)
    with pytest.raises(ValueError, match="redundant.share.tail add up to -.*says nothing"):
        explained.interval([[found]], "redundant.share.tail")
    for pair in (("redundant.share.tail", "total.bits.tail"), ("total.bits.tail",) * 2):
        refused = "redundant.share.tail" in pair
        try:
            explained.difference([[found]], *pair)
        except ValueError:
            assert refused
        else:
            assert not refused


def test_a_difference_leaves_out_draws_without_the_region(labels):
    masks = {"tail": labels == 1, "rest": labels != 1}
    masks["tail"][1] = False
    values = torch.where(labels == 1, 3.0, 1.0)
    found = explained.measures(maps_of(values, values), masks)
    gap = explained.difference([[found]], "total.bits.tail", "total.bits.rest")
    assert gap.low <= gap.value <= gap.high


def test_an_interval_spans_explainers_that_disagree(labels, masks):
    low = explained.measures(maps_of(torch.ones(2, 4, 4), torch.ones(2, 4, 4)), masks)
    high = explained.measures(maps_of(torch.ones(2, 4, 4), (labels == 1).float()), masks)
    same, both = explained.interval([[low, low]], "decision.bits.beak"), [[low, high]]
    assert (same.low, same.value, same.high) == (1, 1, 1)
    found = explained.interval(both, "decision.bits.beak")
    assert (found.low, found.value, found.high) == pytest.approx((0, 0.5, 1))


def test_a_difference_is_paired_over_images_and_explainers(labels):
    masks = {"tail": labels == 1, "rest": labels != 1}
    values = torch.where(labels == 1, 3.0, 1.0) + torch.tensor([0.0, 9.0])[:, None, None]
    found = [explained.measures(maps_of(v, v), masks) for v in (values, values + 5)]
    table = [found[:1], found[1:]]
    alone = explained.interval(table, "total.bits.tail")
    assert alone.high - alone.low > 5
    gap = explained.difference(table, "total.bits.tail", "total.bits.rest")
    assert gap.value == pytest.approx(2)
    assert gap.high - gap.low < 1e-6


def test_an_even_map_is_as_near_as_an_even_map_and_a_peak_on_a_part_is_nearer():
    parts = torch.tensor([[[4.0, 4.0, 1.0], [12.0, 12.0, 1.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    even = torch.full((2, 16, 16), 0.3)
    assert explained.nearness(even, parts, (16, 16)).value == pytest.approx(1)
    peak = torch.zeros(2, 16, 16)
    peak[:, 3:5, 3:5] = 1.0
    near = explained.nearness(peak, parts, (16, 16))
    assert near.value < 0.2
    assert near.numerators[1] == 0 and near.denominators[1] == 0
