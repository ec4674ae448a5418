"""Small classifiers learn what is easy, and are found again."""

import pytest
import torch

from milr.data.digits import pixels
from milr.data.images import ImageSet
from milr.models import small


@pytest.fixture
def bars(tmp_path, monkeypatch):
    """Upright and level bars."""
    monkeypatch.setenv("MILR_CACHE", str(tmp_path))
    images = torch.zeros(64, 1, 8, 8, dtype=torch.uint8)
    targets = torch.arange(64) % 2
    for index, kind in enumerate(targets.tolist()):
        line = index // 2 % 8
        if kind:
            images[index, :, line] = 255
        else:
            images[index, :, :, line] = 255
    return ImageSet(images, targets, ("upright", "level"), "bars")


def test_perceptron_has_three_layers_and_learns(bars):
    network = small.perceptron((1, 8, 8), 2, widths=(16, 8))
    assert sum(isinstance(layer, torch.nn.Linear) for layer in network) == 3
    small.learn(network, bars, pixels, steps=150)
    right = network(pixels(bars.images)).argmax(1) == bars.targets
    assert right.float().mean() > 0.9 and not network.training


def test_weights_are_found_again_and_depend_on_the_seed(bars):
    def weights(seed):
        network = small.perceptron((1, 8, 8), 2, widths=(4, 4))
        return small.learn(network, bars, pixels, steps=2, seed=seed)[1].weight

    assert torch.equal(weights(0), weights(0)) and not torch.equal(weights(0), weights(1))


def test_little_vgg_takes_pictures_and_sees_new_views(bars):
    network = small.little_vgg((1, 8, 8), 2, blocks=((2,), (3, 3)))
    small.learn(network, bars, pixels, steps=2, varied=True)
    assert network(pixels(bars.images)).shape == (64, 2)
