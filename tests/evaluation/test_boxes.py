"""Maps against boxes, with pictures small enough to count."""

import pytest
import torch

from milr.data.images import ImageSet
from milr.evaluation import boxes

SIZE = (4, 4)
BOX = torch.tensor([[1.0, 1.0, 2.0, 2.0]])  # the middle four of sixteen pixels


def spot(*places):
    found = torch.zeros(1, *SIZE)
    for row, column in places:
        found[0, row, column] = 1.0
    return found


def test_accuracy_counts_as_many_pixels_as_the_box_has():
    inside = torch.zeros(1, *SIZE)
    inside[0, 1:3, 1:3] = torch.tensor([[4.0, 3.0], [2.0, 1.0]])
    assert boxes.box_accuracy(inside, BOX, SIZE).tolist() == [1.0]
    inside[0, 0, 0] = 9.0
    assert boxes.box_accuracy(inside, BOX, SIZE).tolist() == [0.75]


def test_equal_pixels_count_by_their_share_in_the_box():
    assert boxes.box_accuracy(torch.ones(1, *SIZE), BOX, SIZE).item() == pytest.approx(0.25)
    # One pixel for sure, and three of fifteen equal ones, of which three are in the box.
    expected = (1 + 3 * 3 / 15) / 4
    assert boxes.box_accuracy(spot((1, 1)), BOX, SIZE).item() == pytest.approx(expected)


def test_sign_counts_and_scale_does_not():
    maps = torch.randn(5, *SIZE, generator=torch.Generator().manual_seed(0))
    many = BOX.expand(5, -1)
    found = boxes.box_accuracy(maps, many, SIZE)
    assert torch.equal(found, boxes.box_accuracy(7 * maps - 3, many, SIZE))
    assert not torch.equal(found, boxes.box_accuracy(-maps, many, SIZE))


def test_overlap_is_that_of_the_largest_region_above_a_fifth_of_the_maximum():
    maps = spot((0, 0), (1, 1), (1, 2), (2, 1), (2, 2))
    maps[0, 3, 3] = 0.1
    # Places that touch at a corner are not connected.
    assert boxes.box_overlap(maps, BOX, SIZE).tolist() == [1.0]
    assert boxes.box_overlap(spot((1, 1)), BOX, SIZE).tolist() == [0.25]
    assert boxes.box_overlap(spot((0, 0)), BOX, SIZE).tolist() == [0.0]
    assert boxes.box_overlap(-spot((1, 1)), BOX, SIZE).tolist() == [0.0]
    assert boxes.box_match(maps, BOX, SIZE).tolist() == [1.0]
    assert boxes.box_match(spot((1, 1)), BOX, SIZE).tolist() == [0.0]


def test_boxes_of_drawn_birds_hold_all_but_the_scene():
    labels = torch.zeros(1, 5, 6, dtype=torch.uint8)
    labels[0, 1, 2] = 2  # the beak
    labels[0, 3, 4] = 3  # the tail
    labels[0, 4, :] = 1  # the branch
    images = ImageSet(
        torch.zeros(1, 3, 5, 6, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64), ("a",), "",
        labels=labels, part_names=("background", "branch", "beak", "tail"),
    )  # fmt: skip
    assert boxes.boxes_of(images).tolist() == [[2.0, 1.0, 3.0, 3.0]]
    assert boxes.objects_of(images).sum() == 2


def test_photographs_keep_their_boxes():
    images = ImageSet(
        torch.zeros(1, 3, *SIZE, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64), ("a",), "",
        boxes=BOX,
    )  # fmt: skip
    assert torch.equal(boxes.boxes_of(images), BOX)
    assert boxes.objects_of(images).sum() == 4


def test_images_without_anything_to_match_are_refused():
    images = ImageSet(
        torch.zeros(1, 3, *SIZE, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64), ("a",), ""
    )
    with pytest.raises(ValueError, match="neither labels nor boxes"):
        boxes.boxes_of(images)
    with pytest.raises(ValueError, match="mask 1 is empty"):
        boxes.around(torch.stack([torch.ones(*SIZE), torch.zeros(*SIZE)]))
