"""With small known functions in the place of networks."""

import numpy as np
import pytest
import torch
from torch import nn

from milr.data import birds
from milr.data.images import denormalise
from milr.evaluation import interventions as iv
from milr.models.prototypical import PrototypicalNetwork

SPECIES = birds.splits()["novel"]
PICTURES = [(SPECIES[0], 5), (SPECIES[7], 6), (SPECIES[12], 7)]


class Corner(nn.Module):
    """Represents an image by the mean colour of its upper left corner, and a constant."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, images):
        colour = denormalise(images)[:, :, :4, :4].float().mean((2, 3)) / 255
        return self.scale * torch.cat([colour, torch.full((len(images), 1), 0.5)], dim=1)


def test_pictures_are_those_of_the_set():
    drawn = birds.load("novel", per_species=2, size=48)
    listed = iv.pictures("novel", per_species=2)
    assert len(listed) == len(drawn)
    for index in (0, 3, len(drawn) - 1):
        image = birds.generate(*listed[index], 48).image
        assert np.array_equal(image, drawn.images[index].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("part", birds.DEFINING)
def test_a_defining_part_is_replaced_by_a_different_one_and_nothing_else_is(part):
    for picture in PICTURES:
        clean = birds.generate(*picture)
        changed = iv.replaced(picture, part)
        differs = (clean.image != changed.image).any(-1)
        touched = clean.extent(part) | changed.extent(part)
        grown = np.pad(touched, 2)
        near = np.any(
            [np.roll(grown, (y, x), (0, 1)) for y in range(-2, 3) for x in range(-2, 3)], axis=0
        )[2:-2, 2:-2]
        assert differs.any()
        assert not (differs & ~near).any()


def test_the_lender_of_a_part_is_drawn_anew_for_another_seed():
    looks = {iv.replaced(PICTURES[0], "breast", seed).image.tobytes() for seed in range(8)}
    assert len(looks) > 3
    again = iv.replaced(PICTURES[0], "breast", 0).image.tobytes()
    assert again == iv.replaced(PICTURES[0], "breast", 0).image.tobytes()


def test_what_is_removed_is_gone():
    assert not iv.removed(PICTURES[0], "tail").mask("tail").any()


def test_only_a_part_that_the_model_sees_moves_its_representation():
    moved = iv.movement(Corner(), PICTURES, ("background", "breast"))
    assert moved.changed.shape == (2, len(PICTURES), 4)
    turned = moved.turned
    assert (turned[0] > 1e-5).all()
    assert turned[1].abs().max() < 1e-6
    assert (moved.area[0] > moved.area[1]).all()
    assert (moved.area[1] > 0).all()


def test_change_of_the_log_probability_follows_from_the_logits():
    model = PrototypicalNetwork(metric="cosine")
    model.log_scale.data.fill_(0.0)
    support = torch.eye(2).reshape(1, 2, 1, 2)
    moved = iv.Movement(
        parts=("to the other", "nowhere"),
        clean=torch.tensor([[1.0, 0.0]]),
        changed=torch.tensor([[[0.0, 1.0]], [[3.0, 0.0]]]),
        area=torch.ones(2, 1),
    )
    change = iv.log_probability_change(model, moved, support, torch.tensor([0]))
    # Logits (1, 0) become (0, 1): log p falls from log e / (e + 1) to log 1 / (e + 1).
    assert change[:, 0].tolist() == pytest.approx([-1.0, 0.0], abs=1e-6)
    assert moved.turned[:, 0].tolist() == pytest.approx([1.0, 0.0], abs=1e-6)


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="antler"):
        iv.movement(Corner(), PICTURES[:1], ("antler",))
