"""Relevance through zennit: conserved, and right where the answer is known."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet18
from zennit.layer import Sum
from zennit.rules import Norm

from milr.data.images import normalise
from milr.models.prototypical import PrototypicalNetwork
from milr.peers import relevance, targets
from milr.peers.peer import prepared


def draw(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def without_bias(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False), nn.ReLU(inplace=True),
        nn.Conv2d(6, 8, 3, bias=False), nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4, bias=False),
    )  # fmt: skip
    return model.eval()


def test_layer_wise_relevance_adds_up_to_the_logit():
    model, images = without_bias(), draw(2, 3, 8, 8)
    target = targets.class_logit(torch.tensor([0, 3]))
    maps = relevance.layer_wise_relevance(prepared(model, images[:1]), images, target)
    logits = model(images).detach()[[0, 1], [0, 3]]
    assert torch.allclose(maps.sum((1, 2)), logits, rtol=2e-2, atol=1e-4)


def test_deep_taylor_gives_the_positive_relevance_and_nothing_below_zero():
    model = without_bias()
    images = normalise((255 * draw(2, 3, 8, 8)).to(torch.uint8))
    classes = model(images).argmax(1)
    target = targets.class_logit(classes)
    maps = relevance.deep_taylor(prepared(model, images[:1]), images, target)
    best = model(images).detach().amax(1)
    assert (best > 0).all() and maps.min() >= 0
    assert torch.allclose(maps.sum((1, 2)), best, rtol=2e-2)


def test_deep_taylor_gives_a_branch_below_zero_nothing():
    """Their sum is rectified, a branch of it is not: 2 and -1 are 1, all of it of the 2."""
    branches = torch.tensor([[[2.0, -1.0], [1.0, 3.0]]], requires_grad=True)
    summed = Sum(dim=-1)
    handles = relevance.PositiveSum().register(summed)
    total = summed(branches)
    (found,) = torch.autograd.grad(total, branches, grad_outputs=total.detach())
    handles.remove()
    assert torch.allclose(found, torch.tensor([[[1.0, 0.0], [1.0, 3.0]]]), atol=1e-4)


def test_deep_taylor_adds_branches_so_in_a_residual_network(monkeypatch):
    torch.manual_seed(0)
    model = resnet18(num_classes=5).eval()
    images = normalise((255 * draw(4, 3, 32, 32)).to(torch.uint8))
    target = targets.class_logit(model(images).argmax(1))
    ready = prepared(model, images[:1])
    maps = relevance.deep_taylor(ready, images, target)
    assert maps.min() >= 0 and maps.max() > 0
    monkeypatch.setattr(relevance, "PositiveSum", Norm)
    assert not torch.allclose(relevance.deep_taylor(ready, images, target), maps, rtol=1e-3)


def test_deep_taylor_of_what_speaks_against_a_class_is_empty():
    model, images = without_bias(), draw(2, 3, 8, 8)
    worst = model(images).argmin(1)
    assert (model(images).amin(1) < 0).all()
    maps = relevance.deep_taylor(prepared(model, images[:1]), images, targets.class_logit(worst))
    assert (maps == 0).all()


def test_relevance_begins_with_what_each_number_of_an_embedding_adds():
    """For the direction of the embedding itself these are its squares over its length."""
    torch.manual_seed(0)
    network = PrototypicalNetwork().eval()
    ready = prepared(network, torch.rand(1, 3, 32, 32))
    images = draw(2, 3, 32, 32)
    z = network(images).detach()
    _, found = relevance._contributions(ready, images, targets.along_embedding(z))
    assert torch.allclose(found, z**2 / z.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", [relevance.layer_wise_relevance, relevance.deep_taylor])
def test_the_copy_is_left_without_rules(method):
    torch.manual_seed(0)
    ready = prepared(PrototypicalNetwork().eval(), torch.rand(1, 3, 32, 32))
    images = draw(1, 3, 32, 32)
    before = ready(images)
    method(ready, images, targets.along_embedding(before))
    assert torch.allclose(ready(images), before, atol=1e-6)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in ready.modules())


class Between(nn.Module):
    """A rectifier, which is no module, stands between a convolution and its batch normalisation."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)
        self.norm.running_mean.fill_(1.0)

    def forward(self, x):
        return self.last(self.norm(self.first(x).relu()).mean((2, 3)))


@pytest.mark.parametrize("method", [relevance.layer_wise_relevance, relevance.deep_taylor])
def test_relevance_of_another_network_is_not_given_out(method):
    model, images = Between().eval(), draw(2, 3, 8, 8)
    target = targets.class_logit(torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="would be that of another network"):
        method(prepared(model, images[:1]), images, target)
    model.norm.reset_running_stats()
    model.norm.eps = 0.0
    assert method(prepared(model, images[:1]), images, target).shape == (2, 8, 8)


@pytest.mark.parametrize("method", [relevance.layer_wise_relevance, relevance.deep_taylor])
def test_a_model_that_the_rules_do_not_fit_is_named(method):
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.mix = nn.Conv2d(3, 4, 4, 4), nn.MultiheadAttention(4, 2)
            self.last = nn.Linear(4, 2)

        def forward(self, x):
            tokens = self.first(x).flatten(2).permute(2, 0, 1)
            return self.last(self.mix(tokens, tokens, tokens, need_weights=False)[0].mean(0))

    model, images = Attending().eval(), draw(2, 3, 8, 8)
    said = r"zennit's rules do not fit this model \(mix is a MultiheadAttention"
    with pytest.raises(ValueError, match=said):
        method(prepared(model, images[:1]), images, targets.class_logit(torch.tensor([0, 1])))
    model = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(16, 2))
    with pytest.raises(ValueError, match="1 is a GroupNorm"):
        method(model.eval(), images, targets.class_logit(torch.tensor([0, 1])))
