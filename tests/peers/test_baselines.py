"""Maps that know nothing of the decision."""

import pytest
import torch

from milr.models.prototypical import PrototypicalNetwork
from milr.peers import baselines


def test_an_edge_is_where_brightness_changes_and_nowhere_else():
    images = torch.zeros(2, 3, 8, 8)
    images[0, :, :, 4:] = 1.0
    maps = baselines.edges(None, images)
    assert (maps[0, :, [0, 1, 2, 5, 6, 7]] == 0).all() and (maps[0, :, 3:5] == 4).all()
    assert (maps[1] == 0).all()


def test_the_gaussian_is_centred_and_falls_by_its_width():
    (found,) = baselines.centred(width=0.25)(None, torch.zeros(1, 3, 9, 17), None)
    assert found.argmax() == 4 * 17 + 8 and torch.allclose(found, found.flip(0, 1))
    # One standard deviation to the side: a quarter of 17 pixels.
    between = found[4, 12] * 0.75 + found[4, 13] * 0.25
    assert float(between) == pytest.approx(0.6065, abs=5e-3)


def test_random_maps_differ_between_images_and_have_the_cells_asked_for():
    maps = baselines.random(cell=4)(None, torch.zeros(3, 3, 10, 8), None)
    assert maps.shape == (3, 3, 2) and len(maps.unique()) == maps.numel()


def test_the_activation_norm_is_the_length_of_a_location_s_features():
    torch.manual_seed(0)
    network, images = PrototypicalNetwork().eval(), torch.randn(2, 3, 32, 32)
    found = baselines.activation_norm("layer1")(network, images, None)
    seen = []
    handle = network.layer1.register_forward_hook(lambda m, i, o: seen.append(o))
    network(images)
    handle.remove()
    assert torch.allclose(found, seen[0].square().sum(1).sqrt(), rtol=1e-5)
