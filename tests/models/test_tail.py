"""A network that has to name something beside the class, on images of plain colours."""

import math
from dataclasses import replace

import pytest
import torch

from milr.data.images import ImageSet
from milr.models import tail
from milr.models import train as loop
from milr.models.prototypical import PrototypicalNetwork, embed
from milr.models.settings import Training

TINY = Training(
    steps=4, ways=4, per_class=4, warmup=2, lr=1e-3, device="cpu", size=32, precision="32-true",
)  # fmt: skip


@pytest.fixture(scope="module")
def colours():
    """Six classes that differ in red and green; how blue an image is has nothing to do with it."""
    generator = torch.Generator().manual_seed(0)
    colour = torch.rand(6, 3, 1, 1, generator=generator).repeat_interleave(12, 0)
    colour[:, 2, 0, 0] = torch.arange(72) % 4 / 3
    grain = torch.randn(72, 3, 32, 32, generator=generator)
    images = (150 * colour + 50 + 20 * grain).clamp(0, 255).to(torch.uint8)
    return ImageSet(images, torch.arange(6).repeat_interleave(12), tuple("abcdef"), "colours")


@pytest.fixture(scope="module")
def blue():
    return (torch.arange(72) % 4)[:, None]


def test_without_weight_the_head_changes_nothing(colours, blue):
    # Without clipping: with the head, the norm is summed in another order, and rounds otherwise.
    free = replace(TINY, clip=1e9)
    plain, _ = loop.train(free, {"train": colours, "validation": colours})
    same, _ = tail.train(free, colours, blue, share=0.0)
    told, _ = tail.train(free, colours, blue)
    for name, value in plain.state_dict().items():
        assert value.equal(same.state_dict()[name]), name
    assert not told.conv1.weight.equal(plain.conv1.weight)


def test_the_head_learns_to_name_the_look(colours, blue):
    settings = replace(TINY, steps=16, ways=6, classifier=0.0)
    network, history = tail.train(settings, colours, blue, share=5.0)
    assert not network.training and len(history["loss"]) == 16
    assert sum(history["loss"][-4:]) < 0.8 * sum(history["loss"][:4])


def test_the_loss_of_the_head_is_the_sum_over_attributes(colours):
    network = PrototypicalNetwork().eval()
    learner = tail.WithLook(network, 6, 0.0, 0.0, attributes=3, share=2.0).eval()
    learner.head.weight.data.zero_()
    learner.head.bias.data.zero_()
    rows = torch.arange(72)[::6]
    told = torch.cat([colours.targets[rows, None], torch.zeros(12, 3, dtype=torch.int64)], 1)
    images = tail.loop.normalise(colours.images[rows])
    loss, _ = learner(images, told, 6)
    pairs = embed(network, colours.images[rows]).unflatten(0, (6, 2))
    alone = tail.episodes(network, pairs)[0]
    # A head that knows nothing gives each of four values a quarter.
    assert float((loss - alone).detach()) == pytest.approx(2 * 3 * math.log(4), rel=1e-3)


def test_a_second_training_is_found_and_other_looks_are_not(colours, blue, monkeypatch):
    first, _ = tail.train(TINY, colours, blue)
    monkeypatch.setattr(tail, "_fit", lambda *_: 1 / 0)
    again, _ = tail.train(replace(TINY, processes=1), colours, blue)
    assert first.conv1.weight.equal(again.conv1.weight)
    with pytest.raises(ZeroDivisionError):
        tail.train(TINY, colours, blue.flip(0))


def test_a_look_for_each_image_is_needed(colours, blue):
    with pytest.raises(ValueError, match=r"looks has shape \(71, 1\) for 72 images"):
        tail.train(TINY, colours, blue[1:])
