"""Maps against effects that were made up, so that the correlation is known."""

import pytest
import torch

from milr.evaluation import effects

NAMES = ("background", "head", "wing", "tail")


@pytest.fixture
def labels():
    """Rows of pixels for the parts, in an order that differs from image to image."""
    rows = torch.stack([torch.arange(4).roll(k) for k in range(4)])
    return rows[:, :, None].expand(-1, -1, 3)


EFFECTS = torch.tensor([0.1, 3.0, 2.0, 0.5])[:, None].expand(-1, 4)


def held(maps, labels):
    return effects.part_sums(maps, labels, NAMES)


def perfect(labels):
    return EFFECTS[:, 0][labels]


def test_a_part_holds_the_sum_of_its_pixels(labels):
    held = effects.part_sums(perfect(labels), labels, NAMES)
    assert held.tolist() == [pytest.approx([0.3, 9.0, 6.0, 1.5])] * 4


def test_a_map_of_the_effects_follows_them_wholly(labels):
    found = effects.following(held(perfect(labels), labels), EFFECTS)
    assert found.tolist() == pytest.approx([1] * 4)
    less = effects.following(held(-perfect(labels), labels), EFFECTS)
    assert less.tolist() == pytest.approx([-1] * 4)


def test_a_constant_map_follows_nothing(labels):
    assert effects.following(held(torch.ones(4, 4, 3), labels), EFFECTS).tolist() == [0] * 4


def test_a_part_that_an_image_lacks_is_left_out(labels):
    lacking = labels.clone()
    lacking[lacking == 3] = 0
    found = effects.following(held(perfect(lacking), lacking), EFFECTS)
    assert found.tolist() == pytest.approx([1] * 4)


def test_maps_of_other_images_follow_less(labels):
    null = effects.null(perfect(labels), labels, NAMES, EFFECTS)
    assert null.mean() < 0.2
    # Where all images look alike the null is as good as the map.
    same = labels[:1].expand(4, -1, -1)
    assert effects.null(perfect(same), same, NAMES, EFFECTS).tolist() == pytest.approx([1] * 4)


def test_a_large_part_holds_more_in_sum_and_not_in_the_mean():
    labels = torch.tensor([[[0, 0, 0], [1, 2, 3]]])
    even = torch.ones(1, 2, 3)
    assert effects.part_sums(even, labels, NAMES).tolist() == [[3, 1, 1, 1]]
    assert effects.mean_on_parts(even, labels, NAMES).tolist() == [[1, 1, 1, 1]]


def test_one_image_has_no_other():
    with pytest.raises(ValueError, match="two or more"):
        effects.null(torch.ones(1, 4, 3), torch.zeros(1, 4, 3).long(), NAMES, EFFECTS[:, :1])


def test_spared_parts_move_the_representation_alone():
    moved = torch.tensor([[1.0], [1.0], [2.0]])
    decided = torch.tensor([[0.0], [3.0], [1.0]])
    assert effects.spared(moved, decided)[:, 0].tolist() == pytest.approx([0.25, -0.5, 0.25])
