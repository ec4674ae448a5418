from dataclasses import replace

import pytest
import torch

from milr.data.images import ImageSet, augment, content_digest, denormalise, normalise


@pytest.fixture
def images():
    return torch.randint(
        0, 256, (6, 3, 20, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@pytest.fixture
def birds(images):
    return ImageSet(
        images=images,
        targets=torch.tensor([0, 1, 2, 0, 1, 2]),
        classes=("ani", "bunting", "cuckoo"),
        digest="abc",
        boxes=torch.arange(24.0).reshape(6, 4),
    )


def test_a_subset_takes_the_same_rows_of_everything(birds):
    chosen = birds.subset([4, 1])
    assert len(chosen) == 2
    assert torch.equal(chosen.images, birds.images[[4, 1]])
    assert chosen.targets.tolist() == [1, 1]
    assert chosen.boxes.tolist() == birds.boxes[[4, 1]].tolist()
    assert chosen.labels is None
    by_mask = birds.subset(birds.targets == 1)
    assert torch.equal(by_mask.images, birds.images[[1, 4]])


def test_different_subsets_have_different_digests(birds):
    digests = {birds.digest, birds.subset([0, 1]).digest, birds.subset([1, 0]).digest}
    assert len(digests) == 3
    assert birds.subset([0, 1]).digest == birds.subset(torch.tensor([0, 1])).digest


def test_choosing_classes_renumbers_targets_in_the_given_order(birds):
    chosen = birds.of_classes(["cuckoo", 0])
    assert chosen.classes == ("cuckoo", "ani")
    assert chosen.targets.tolist() == [1, 0, 1, 0]
    assert torch.equal(chosen.images, birds.images[[0, 2, 3, 5]])


def test_other_images_of_the_same_class_have_another_digest(birds):
    """Folds may be classes: then who is of the class differs, and not its name."""
    other = replace(birds, targets=birds.targets.flip(0))
    assert birds.of_classes([0]).digest != other.of_classes([0]).digest


@pytest.mark.parametrize("wrong", [["dodo"], [3], [-1], [0, "ani"]])
def test_a_class_that_is_absent_or_twice_is_refused(birds, wrong):
    with pytest.raises(ValueError, match="give"):
        birds.of_classes(wrong)


def test_an_index_outside_the_set_is_refused(birds):
    with pytest.raises(IndexError):
        birds.subset([6])


def test_rows_that_do_not_match_the_images_are_refused(images):
    with pytest.raises(ValueError, match="targets has 5 rows for 6 images"):
        ImageSet(images, torch.zeros(5, dtype=torch.int64), ("a",), "")


def test_normalised_values_follow_imagenet(images):
    expected = (images[0, 1, 2, 3].item() / 255 - 0.456) / 0.224
    assert normalise(images)[0, 1, 2, 3].item() == pytest.approx(expected, abs=1e-6)
    assert torch.equal(denormalise(normalise(images)), images)


@pytest.mark.parametrize(
    "wrong", [torch.rand(2, 3, 4, 4), torch.zeros(2, 1, 4, 4, dtype=torch.uint8)]
)
def test_what_normalising_would_make_nonsense_of_is_refused(wrong):
    with pytest.raises(ValueError, match=r"give \(..., 3, H, W\) of torch.uint8, 0 to 255"):
        normalise(wrong)


def test_augmented_views_differ_by_image_and_repeat_with_the_seed(images):
    same = images[:1].expand(40, -1, -1, -1)
    first = augment(same, torch.Generator().manual_seed(1))
    again = augment(same, torch.Generator().manual_seed(1))
    assert first.dtype == torch.uint8 and first.shape == same.shape
    assert torch.equal(first, again)
    assert len({view.numpy().tobytes() for view in first}) == 40


def test_augmentation_moves_little_and_flips_half():
    """A bright column near the left border shows how far each view was shifted and flipped."""
    images = torch.zeros(400, 3, 40, 40, dtype=torch.uint8)
    images[:, :, :, 10] = 200
    views = augment(images, torch.Generator().manual_seed(0))
    column = views.float().mean(dim=(1, 2)).argmax(dim=1)
    flipped = column >= 20
    assert 0.4 < flipped.float().mean() < 0.6
    place = torch.where(flipped, 39 - column, column)
    assert place.min() == 6 and place.max() == 14


def test_augmentation_leaves_the_given_batch_alone(images):
    before = images.clone()
    augment(images, torch.Generator().manual_seed(0))
    assert torch.equal(images, before)


def test_content_digests_see_values_shapes_and_types():
    x = torch.zeros(4, dtype=torch.uint8)
    y = torch.tensor([0, 0, 0, 1], dtype=torch.uint8)
    made = [content_digest(t) for t in (x, y, x.reshape(2, 2), x.to(torch.int8))]
    assert len(set(made)) == 4
    assert content_digest("a", "b") != content_digest("ab")


def test_a_subset_may_be_empty():
    images = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
    whole = ImageSet(images, torch.arange(4), tuple("abcd"), "four")
    for none in ([], torch.zeros(4, dtype=torch.bool)):
        assert len(whole.subset(none)) == 0 and whole.subset(none).classes == whole.classes
