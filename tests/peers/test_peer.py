"""The interface of the peers: what it does to maps, and that it does nothing to the model."""

import copy
import functools

import pytest
import torch
from torch import nn

from milr.models.prototypical import PrototypicalNetwork
from milr.peers import registry, targets
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


@functools.cache
def made(name, model):
    return PEERS[name].maps(model, images(), target(model))


@pytest.mark.parametrize("name", [n for n in PEERS if n not in ("SmoothGrad", "random")])
def test_a_map_does_not_depend_on_the_images_beside_it(model, name):
    peer, given, asked = PEERS[name], images(), target(model)
    together = made(name, model)
    alone = peer.maps(model, given[1:2], asked[1:2])
    assert torch.allclose(together[1:2], alone, rtol=1e-3, atol=1e-4 * float(together.abs().max()))


@pytest.mark.parametrize("name", [n for n in PEERS if not n.startswith(SLOW)])
def test_a_peer_uses_the_label_if_it_says_so_and_not_otherwise(model, name):
    given, right = images(), target(model)
    wrong = targets.Target(right.score, (right.context[0], (right.context[1] + 1) % 3))
    same = torch.equal(made(name, model), PEERS[name].maps(model, given, wrong))
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


class Hooked(nn.ReLU):
    def forward(self, x):
        return 0.5 * super().forward(x)


def test_what_a_rectifier_does_besides_is_kept():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), Hooked(), nn.Conv2d(4, 4, 3), nn.ReLU()).eval()
    model[3].register_forward_hook(lambda module, inputs, output: 3 * output)
    assert torch.equal(prepared(model, images(1))(images()), model(images()))


def test_a_copy_that_would_give_other_outputs_is_refused():
    class Aliased(nn.Module):
        """Relies on what its rectifier does in place."""

        def __init__(self):
            super().__init__()
            self.first, self.relu = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)

        def forward(self, x):
            out = self.first(x)
            self.relu(out)
            return out.flatten(1)

    with pytest.raises(ValueError, match="gives other outputs than the model.*inplace=False"):
        prepared(Aliased().eval(), images(1))


@pytest.mark.parametrize("layer", [nn.MaxPool2d(2), nn.LeakyReLU(inplace=True), nn.Sigmoid()])
def test_deep_lift_takes_any_layer_that_is_shared(layer):
    torch.manual_seed(0)
    first, second, head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.LazyLinear(2)
    shared = nn.Sequential(first, layer, second, layer, nn.Flatten(), head).eval()
    shared(images(1))
    apart = nn.Sequential(
        first, layer, second, copy.deepcopy(layer), nn.Flatten(), head
    ).eval()  # fmt: skip
    asked = images(), targets.class_logit(torch.tensor([0, 1, 1]))
    found, expected = (PEERS["DeepLift"].maps(model, *asked) for model in (shared, apart))
    assert torch.equal(found, expected) and found.abs().max() > 0


@pytest.mark.parametrize("name", ["saliency", "LRP", "DeepLift", "occlusion"])
def test_maps_are_the_same_where_no_gradients_are_asked_for(name):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3600, 2)).eval()
    asked = images(), targets.class_logit(torch.tensor([0, 1, 1]))
    expected = PEERS[name].maps(model, *asked)
    for quiet in (torch.no_grad, torch.inference_mode):
        with quiet():
            assert torch.equal(PEERS[name].maps(model, *asked), expected)


def test_questions_that_cannot_be_asked_are_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(3600, 2)).eval()
    asked, right = PEERS["saliency"], targets.class_logit(torch.tensor([0, 1, 1]))
    with pytest.raises(ValueError, match="there are no images"):
        asked.maps(model, images()[:0], right[:0])
    with pytest.raises(ValueError, match=r"\(3, 32, 32\); give \(B, C, H, W\)"):
        asked.maps(model, images()[0], right)
    with pytest.raises(ValueError, match="batch_size is -1; give 1 or more"):
        asked.maps(model, images(), right, batch_size=-1)
    with pytest.raises(ValueError, match="the target is a Tensor; give a Target, such as"):
        asked.maps(model, images(), torch.tensor([0, 1, 1]))
    layered = registry.peers("1", "1")
    for name in ("Grad-CAM, 1", "activation norm, 1", "integrated gradients, 1"):
        with pytest.raises(ValueError, match=r"layer '1' gives shape .*; name one that gives maps"):
            layered[name].maps(model, images(), right)
    with pytest.raises(ValueError, match="a layer is named by 1"):
        registry.peers(1, 1)["Grad-CAM, 1"].maps(model, images(), right)
