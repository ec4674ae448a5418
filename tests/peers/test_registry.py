"""The table of peers, and MI-LR itself as one of them."""

import pytest
import torch
from torch import nn

from milr import MILR
from milr.peers import targets
from milr.peers.registry import PEERS, own, peers

ASKED = (
    "saliency", "input x gradient", "integrated gradients", "SmoothGrad",
    "guided backpropagation", "guided Grad-CAM", "Grad-CAM, layer1", "Grad-CAM, layer4",
    "Grad-CAM on the embedding, layer4", "occlusion", "DeepLift", "LRP", "deep Taylor", "edges",
    "centred Gaussian", "random", "activation norm, layer1",
)  # fmt: skip


@pytest.fixture(scope="module")
def fitted():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(16, 3)
    ).eval()
    explainer = MILR(model, "0", "3", members=1)
    batches = [torch.randn(8, 3, 8, 8) for _ in range(4)]
    return explainer.fit(
        batches, lambda outputs, batch: outputs.square().mean(), steps=2, critic_steps=2,
        critic_batches=2, bank=8, progress=False,
    )  # fmt: skip


def target(count):
    return targets.class_logit(torch.zeros(count, dtype=torch.int64))


def test_all_methods_that_were_asked_for_are_there():
    assert set(ASKED) <= set(PEERS)
    assert all(name == peer.name for name, peer in PEERS.items())


def test_layers_may_have_other_names():
    assert {peer.layer for peer in peers("stem", "trunk").values()} == {"input", "stem", "trunk"}


@pytest.mark.parametrize("kind", ["total", "decision", "redundant", "capacity"])
def test_an_explainer_s_own_maps_come_by_the_same_interface(fitted, kind):
    images = torch.randn(3, 3, 8, 8)
    maps = own(fitted, kind).maps(fitted.model, images, target(3))
    assert torch.allclose(maps, getattr(fitted.explain(images), kind), atol=1e-5)


def test_a_model_with_other_parameters_gets_other_maps(fitted):
    images = torch.randn(3, 3, 8, 8)
    torch.manual_seed(5)
    other = nn.Sequential(*fitted.model[:4], nn.Linear(16, 3)).eval()
    other[0] = nn.Conv2d(3, 4, 3, padding=1)
    peer = own(fitted)
    before = peer.maps(fitted.model, images, target(3))
    assert not torch.allclose(peer.maps(other, images, target(3)), before, atol=1e-3)
    assert torch.equal(peer.maps(fitted.model, images, target(3)), before)


def test_an_unknown_kind_is_refused(fitted):
    with pytest.raises(ValueError, match="total, decision, redundant, capacity"):
        own(fitted, "loudness")
