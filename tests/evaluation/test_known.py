"""What a representation knows: the numbers of known maps, masks and logits."""

from dataclasses import replace

import pytest
import torch

from milr.data.images import ImageSet
from milr.evaluation import explained, known, measures
from milr.evaluation.interventions import Movement
from milr.maps import Maps

NAMES = ("background", "branch", "beak", "belly")


def pictures(labels=None, **more):
    labels = torch.tensor(labels, dtype=torch.uint8) if labels is not None else None
    count = len(labels) if labels is not None else len(more.get("boxes", [0]))
    images = torch.zeros(count, 3, 4, 4, dtype=torch.uint8)
    names = NAMES if labels is not None else more.pop("part_names", ())
    targets = torch.zeros(count, dtype=torch.int64)
    return ImageSet(images, targets, ("a",), "digest", labels, part_names=names, **more)


def maps_of(total, decision):
    total, decision = torch.as_tensor(total).float(), torch.as_tensor(decision).float()
    return Maps(total, decision, decision.clamp(min=0), ceiling=4.0)


def test_half_of_a_map_lies_on_as_few_locations_as_it_takes():
    even, peak = torch.ones(4, 4), torch.zeros(4, 4)
    peak[1, 2] = 5.0
    peak[0, 0] = -100.0
    found = known.half_area(torch.stack([even, peak]))
    assert found.per_image.tolist() == [8 / 16, 1 / 16]


def test_half_of_noise_lies_on_an_eighth_of_the_places_and_on_fewer_below_0():
    noise = torch.randn(50, 64, 64, generator=torch.Generator().manual_seed(0))
    assert known.half_area(noise).value == pytest.approx(0.12, abs=0.005)
    assert known.half_area(noise - 0.5).value < 0.08


def test_a_map_without_a_positive_value_does_not_count():
    found = known.half_area(torch.stack([torch.ones(2, 2), -torch.ones(2, 2)]))
    assert found.value == 0.5


def test_regions_of_drawn_birds_leave_the_scene_out_of_the_bird():
    found = known.regions(pictures([[[0, 1], [2, 3]]]), used=["belly"])
    assert found["bird"].tolist() == [[[False, False], [True, True]]]
    assert (
        "back" not in found
        and found["body"].equal(found["belly"])
        and found["used"].equal(found["belly"])
    )
    assert found["defining"].equal(found["beak"])


def test_regions_of_photographs_are_the_box_and_discs():
    box = torch.tensor([[0.0, 0.0, 4.0, 2.0]])
    parts = torch.tensor([[[1.0, 1.0, 1.0], [3.0, 3.0, 0.0]]])
    found = known.regions(pictures(boxes=box, parts=parts, part_names=("beak", "tail")))
    assert set(found) >= {"bird", "background"} and "tail" not in found
    assert (found["bird"] + found["background"] == 1).all()
    with pytest.raises(ValueError, match="neither labels nor boxes"):
        known.regions(pictures())


def test_mean_area_and_share_on_the_background_of_each_kind():
    images = pictures([[[0, 0], [2, 2]]])
    table = known.measures(
        maps_of([[[1.0, 0.0], [3.0, -2.0]]], [[[0.0, 0.0], [2.0, -1.0]]]), known.regions(images)
    )
    assert table["total.mean"].value == 0.5
    assert table["total.mass.background"].value == 0.25
    assert table["decision.mass.background"].value == 0.0
    assert table["total.area"].value == 0.25
    assert table["redundant.mean"].value == 0.25


def test_drops_are_those_of_the_right_class():
    clean = torch.log(torch.tensor([[0.5, 0.5], [0.2, 0.8]]))
    changed = torch.log(torch.tensor([[[0.25, 0.75], [0.6, 0.4]]]))
    moved = Movement(("beak",), clean, changed, torch.zeros(1, 2))
    found = known.drops(moved, torch.tensor([0, 1]))
    assert torch.allclose(found, torch.full((1, 2), 2.0).log())


def test_a_map_of_the_effects_follows_them_and_random_ones_do_not():
    labels = torch.arange(4).repeat(40, 4, 1)
    effect = torch.rand(4, 40, generator=torch.Generator().manual_seed(1))
    exact = effect.T[:, None].expand(40, 4, 4)
    found = known.follow(maps_of(1 - exact, exact), labels, NAMES, effect)
    assert found["effect.decision"].value == pytest.approx(1)
    assert found["effect.total"].value == pytest.approx(-1)
    assert abs(found["effect.random"].value) < 0.4
    for kind in ("decision", "total", "capacity", "redundant"):
        assert abs(found[f"effect.dealt {kind}"].value) < 0.4


def test_each_kind_has_its_own_map_of_other_images_for_a_null():
    """The capacity here is the same everywhere on all images, so that dealing changes nothing."""
    labels = torch.arange(4).repeat(40, 4, 1)
    effect = torch.arange(4.0)[:, None].expand(4, 40)
    one = torch.rand(40, 4, 4, generator=torch.Generator().manual_seed(1))
    rising = torch.arange(1.0, 5.0).expand(40, 4, 4)
    maps = replace(maps_of(one, one), capacity=rising)
    found = known.follow(maps, labels, NAMES, effect)
    assert found["effect.dealt capacity"].value == pytest.approx(1)
    assert abs(found["effect.dealt decision"].value) < 0.4


def test_two_networks_can_be_compared_measure_by_measure():
    masks = known.regions(pictures([[[0, 0], [2, 2]]] * 3))
    one = known.measures(maps_of(torch.ones(3, 2, 2), torch.ones(3, 2, 2)), masks)
    two = known.measures(maps_of(3 * torch.ones(3, 2, 2), torch.ones(3, 2, 2)), masks)
    table = known.side_by_side({"one": [[one, one]], "two": [[two, two]]})
    found = explained.difference(table, "two: total.mean", "one: total.mean")
    assert (found.value, found.low, found.high) == (2, 2, 2)


def test_photographs_may_have_boxes_alone():
    boxes = torch.tensor([[1.0, 1, 2, 2]])
    found = known.regions(pictures(boxes=boxes))
    assert list(found) == ["bird", "background"]
    table = measures.on_photographs(torch.rand(1, 4, 4), pictures(boxes=boxes))
    assert "distance" not in table and "box" in table


def test_an_image_on_which_nothing_has_an_effect_counts_for_nothing():
    labels = torch.arange(4)[:, None].expand(-1, 4)[None].expand(2, -1, -1)
    maps = maps_of(torch.rand(2, 4, 4), torch.rand(2, 4, 4))
    effect = torch.tensor([[1.0, 0], [2, 0], [4, 0], [3, 0]])
    found = known.follow(maps, labels, ("a", "b", "c", "d"), effect)
    assert found["effect.total"].denominators.tolist() == [1, 0]
    assert all(ratio.pair[0].isfinite().all() for ratio in found.values())
