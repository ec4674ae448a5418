"""Small classifiers learn what is easy, and are found again."""

import importlib
import sys
from functools import partial

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


def test_what_prepare_does_and_not_its_name_tells_entries_apart(bars):
    def weights(prepare):
        network = small.perceptron((1, 8, 8), 2, widths=(4, 4))
        return small.learn(network, bars, prepare, steps=2)[1].weight

    half, double = (lambda images, f=f: f * pixels(images) for f in (0.5, 2.0))
    assert not torch.equal(weights(half), weights(double))
    assert torch.equal(weights(partial(pixels)), weights(pixels))


def test_a_change_of_a_networks_own_source_is_learned_anew(bars, tmp_path, monkeypatch):
    source = "from torch import nn\n\nclass Scaled(nn.Linear):\n"
    source += "    def forward(self, x):\n        return {0} * super().forward(x.flatten(1))\n"

    def weights(factor):
        (tmp_path / "scaled.py").write_text(source.format(factor))
        monkeypatch.syspath_prepend(tmp_path)
        sys.modules.pop("scaled", None)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        importlib.invalidate_caches()
        network = importlib.import_module("scaled").Scaled(64, 2)
        return small.learn(network, bars, pixels, steps=2).weight

    assert not torch.equal(weights(1), weights(-1))


def test_what_a_class_is_made_from_counts_where_that_is_written(bars, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    below = "from torch import nn\n\nclass Below(nn.Linear):\n    ...\n"
    (tmp_path / "from_below.py").write_text(below)
    above = "from from_below import Below\n\nclass Above(Below):\n    ...\n"
    (tmp_path / "from_above.py").write_text(above)
    network = importlib.import_module("from_above").Above(64, 2)
    files = {path.name for path in small._written_in(network)}
    assert files == {"from_above.py", "from_below.py"}


class Shifted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.rand(2))

    def forward(self, x):
        return x + self.shift


def test_a_module_that_cannot_start_anew_is_refused(bars):
    network = torch.nn.Sequential(*small.perceptron((1, 8, 8), 2, widths=(4, 4)), Shifted())
    with pytest.raises(ValueError, match=r"module '6' \(Shifted\) has .* no reset_parameters"):
        small.learn(network, bars, pixels, steps=2)


def test_a_class_of_no_file_is_refused(bars, monkeypatch):
    monkeypatch.setattr(Shifted, "__module__", "nowhere")
    with pytest.raises(ValueError, match="Shifted is defined in no file"):
        small.learn(torch.nn.Sequential(Shifted()), bars, pixels, steps=2)
