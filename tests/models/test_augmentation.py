import pytest
import torch

from milr.models.augmentation import AUGMENTATIONS, strong


def images(count=12, size=40):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    return (255 * torch.nn.functional.interpolate(coarse, size=size)).to(torch.uint8)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_views_are_images_that_follow_from_the_seed(name):
    given = images()
    views = [AUGMENTATIONS[name](given, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert views[0].shape == given.shape and views[0].dtype == torch.uint8
    assert views[0].equal(views[1]) and not views[0].equal(views[2])
    assert given.equal(images())


def test_each_image_is_moved_on_its_own():
    same = images(1).expand(30, -1, -1, -1)
    views = strong(same, torch.Generator().manual_seed(0))
    assert len(torch.unique(views.flatten(1), dim=0)) == 30


def test_about_half_of_the_views_are_mirrored():
    # Brighter to the right; turning by 15 degrees at most cannot reverse that.
    ramp = torch.linspace(50, 150, 40).to(torch.uint8).expand(400, 3, 40, 40)
    views = strong(ramp, torch.Generator().manual_seed(0)).float()
    mirrored = views[..., :20].mean((1, 2, 3)) > views[..., 20:].mean((1, 2, 3))
    assert 0.4 < mirrored.float().mean() < 0.6


def test_an_enlarged_part_shows_a_part_of_the_image():
    # Within a bright disc on black, seen whole or in part, the bright share can only grow.
    y, x = torch.meshgrid(torch.linspace(-1, 1, 40), torch.linspace(-1, 1, 40), indexing="ij")
    disc = ((x**2 + y**2 < 0.5) * 200).to(torch.uint8).expand(200, 3, 40, 40)
    views = strong(disc, torch.Generator().manual_seed(0))
    share = (views > 40).float().mean((1, 2, 3))
    assert share.mean() > 1.1 * (disc > 40).float().mean()


def test_grey_stays_grey_and_brightness_varies():
    grey = torch.full((200, 3, 8, 8), 100, dtype=torch.uint8)
    views = strong(grey, torch.Generator().manual_seed(0)).float()
    assert (views - views.mean((1, 2, 3), keepdim=True)).abs().max() <= 1
    assert views.mean((1, 2, 3)).min() < 70 and views.mean((1, 2, 3)).max() > 130
