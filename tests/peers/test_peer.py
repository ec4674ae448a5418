"""The interface of the peers: what it does to maps, and that it does nothing to the model."""

import copy

import pytest
import torch
from torch import nn

from milr.models.prototypical import PrototypicalNetwork
from milr.peers import targets
from milr.peers.peer import InTurn, Peer, prepared
from milr.peers.registry import PEERS

SLOW = ("occlusion", "SmoothGrad", "integrated gradients")


@pytest.fixture(scope="module")
def model():
    """A network whose batch normalisation has something to merge.

    Not with the cosine: on layer4's single location here, Grad-CAM of it is 0 but for rounding.
    """
    torch.manual_seed(0)
    network = PrototypicalNetwork(metric="euclidean")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def images(count=3):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def target(model, count=3):
    generator = torch.Generator().manual_seed(2)
    support = torch.rand(count, 3, 1, 512, generator=generator)
    return targets.episode_log_probability(model, support, torch.arange(count) % 3)


def hooks(model):
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
        for m in model.modules()
    )


@pytest.mark.parametrize("name", PEERS)
def test_maps_have_the_images_resolution_and_the_model_stays_bit_for_bit_as_it_was(model, name):
    before = copy.deepcopy(model.state_dict())
    flags = [parameter.requires_grad for parameter in model.parameters()]
    given = images()
    maps = PEERS[name].maps(model, given, target(model))
    assert maps.shape == (3, 32, 32) and maps.dtype == torch.float32
    assert maps.isfinite().all() and maps.abs().sum() > 0
    assert PEERS[name].signed or maps.min() >= 0
    assert not maps.requires_grad and not given.requires_grad
    after = model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(parameter.grad is None for parameter in model.parameters())
    assert hooks(model) == 0


@pytest.mark.parametrize("name", [n for n in PEERS if n not in ("SmoothGrad", "random")])
def test_a_map_does_not_depend_on_the_images_beside_it(model, name):
    peer, given, asked = PEERS[name], images(), target(model)
    together = peer.maps(model, given, asked)
    alone = peer.maps(model, given[1:2], asked[1:2])
    assert torch.allclose(together[1:2], alone, rtol=1e-3, atol=1e-4 * float(together.abs().max()))


@pytest.mark.parametrize("name", [n for n in PEERS if not n.startswith(SLOW)])
def test_a_peer_uses_the_label_if_it_says_so_and_not_otherwise(model, name):
    given, right = images(), target(model)
    wrong = targets.Target(right.score, (right.context[0], (right.context[1] + 1) % 3))
    same = torch.equal(PEERS[name].maps(model, given, right), PEERS[name].maps(model, given, wrong))
    assert same == (PEERS[name].needs == "nothing")


def test_what_is_random_is_the_same_each_time_and_leaves_the_state_alone(model):
    state = torch.random.get_rng_state()
    first, again = (PEERS["random"].maps(model, images(), target(model)) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(state, torch.random.get_rng_state())


def test_the_copy_gives_the_same_outputs_with_a_rectifier_for_each_use(model):
    ready = prepared(model, images(1))
    assert torch.equal(ready(images()), model(images()))
    turns = [module for module in ready.modules() if isinstance(module, InTurn)]
    # One in the stem and two in each of eight blocks, where torchvision has one for both.
    assert len(turns) == 9 and sum(len(turn.each) for turn in turns) == 17
    assert not any(rectifier.inplace for turn in turns for rectifier in turn.each)


def test_a_rectifier_that_several_parts_share_is_separated():
    shared = nn.ReLU(inplace=True)
    model = nn.Sequential(nn.Linear(4, 4), shared, nn.Linear(4, 4), shared).eval()
    ready = prepared(model, torch.randn(1, 4))
    assert ready[1] is ready[3] and len(ready[1].each) == 2
    assert model[1] is shared and shared.inplace


def test_an_error_leaves_no_trace_on_the_model(model):
    def fail(ready, images, target):
        ready.conv1.weight.zero_()
        ready.register_forward_hook(lambda *_: None)
        raise RuntimeError("as it happens")

    before = model.conv1.weight.clone()
    with pytest.raises(RuntimeError, match="as it happens"):
        Peer("failing", "input", "nothing", fail).maps(model, images(), target(model))
    assert torch.equal(model.conv1.weight, before) and hooks(model) == 0


def test_a_coarse_map_is_interpolated_between_its_locations(model):
    corner = Peer("corner", "input", "nothing", lambda m, x, t: torch.eye(2).expand(len(x), 2, 2))
    maps = corner.maps(model, images(), target(model))
    assert maps[0, 0, 0] == 1 and maps[0, 0, -1] == 0 and 0.4 < float(maps[0].mean()) < 0.6


def test_a_layers_map_is_put_where_the_layer_looks(model):
    layered = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.AvgPool2d(8), nn.Flatten()
    ).eval()

    def one_peak(m, x, t):
        maps = torch.zeros(len(x), 8, 8)
        maps[:, 2, 5] = 1.0
        return maps

    asked = torch.randn(2, 3, 16, 16), targets.class_log_probability(torch.tensor([0, 1]))
    in_layer = Peer("peak", "0", "nothing", one_peak).maps(layered, *asked)
    assert in_layer[0].argmax() == 4 * 16 + 10 and in_layer.max() == 1
    in_input = Peer("peak", "input", "nothing", one_peak).maps(layered, *asked)
    assert in_input.max() < 1
    assert hooks(layered) == 0


def test_wrong_use_is_refused(model):
    with pytest.raises(ValueError, match="label, nothing"):
        Peer("what", "input", "something", lambda *_: None)
    with pytest.raises(ValueError, match="2 images and a target of 3"):
        PEERS["edges"].maps(model, images(2), target(model))
    training = copy.deepcopy(model).train()
    with pytest.raises(ValueError, match="training mode"):
        PEERS["edges"].maps(training, images(), target(model))
