"""MI-LR by the interface of its peers."""

import math

import pytest
import torch
from torch import nn

from milr import MILR
from milr.peers import own, schulz, targets


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


IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(7))


def target():
    return targets.class_log_probability(torch.tensor([0, 1, 2]))


@pytest.mark.parametrize("kind", ["total", "decision", "redundant", "capacity"])
def test_an_explainer_s_maps_come_by_the_same_interface(fitted, kind):
    maps = own.amortised(fitted, kind).maps(fitted.model, IMAGES, target())
    assert torch.allclose(maps, getattr(fitted.explain(IMAGES), kind), atol=1e-5)


def test_a_model_with_other_parameters_gets_other_maps(fitted):
    torch.manual_seed(5)
    other = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *fitted.model[1:]).eval()
    peer = own.amortised(fitted)
    before = peer.maps(fitted.model, IMAGES, target())
    assert not torch.allclose(peer.maps(other, IMAGES, target()), before, atol=1e-3)
    assert torch.equal(peer.maps(fitted.model, IMAGES, target()), before)


def test_refining_in_no_steps_gives_the_capacity_that_was_inferred(fitted):
    maps = own.refined(fitted, steps=0).maps(fitted.model, IMAGES, target())
    assert torch.allclose(maps, fitted.explain(IMAGES).capacity, rtol=1e-3)


def test_refining_lowers_what_the_bottleneck_of_each_image_costs(fitted):
    found = fitted.state()["inserted"]
    moments = found["local mean"], found["local std"]
    asked = target()

    def cost(steps):
        how = {"beta": 1.0, "draws": 8, "learning_rate": 0.3}
        maps = own.refined(fitted, steps=steps, **how).maps(fitted.model, IMAGES, asked)
        start = fitted.keep(IMAGES).transpose(1, 2).unflatten(2, (8, 8)).logit()
        keep = schulz.best_keep(
            fitted.model, "0", IMAGES, asked, moments, steps=steps, blur=0.0, start=start, **how
        )
        local = fitted.model[0](IMAGES).detach()
        assert torch.allclose(schulz.bits(local, keep, moments), maps, rtol=1e-3, atol=1e-4)
        mean, std = (m[:, None, None] for m in moments)
        noise = torch.randn(64, *local.shape, generator=torch.Generator().manual_seed(1))
        passed = keep * local + (1 - keep) * (mean + std * noise)
        loss = -asked.repeated(64)(fitted.model[1:](passed.flatten(0, 1))).mean()
        return float(loss.detach()) + float(maps.mean()) * math.log(2) / 4

    assert cost(20) < 0.8 * cost(0)


def test_refining_uses_the_label_and_leaves_the_explainer_alone(fitted):
    before = {key: value.clone() for key, value in fitted.state()["inserted"].items()}
    peer = own.refined(fitted, beta=0.1)
    wrong = targets.class_log_probability(torch.tensor([2, 0, 1]))
    maps = [peer.maps(fitted.model, IMAGES, asked) for asked in (target(), wrong)]
    assert not torch.allclose(*maps, atol=1e-3) and peer.needs == "label"
    after = fitted.state()["inserted"]
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_the_refined_decision_starts_from_the_amortised_one_and_heeds_the_label(fitted):
    start = own.refined_decision(fitted, steps=0).maps(fitted.model, IMAGES, target())
    assert torch.allclose(start, fitted.explain(IMAGES).decision, atol=1e-3)
    peer = own.refined_decision(fitted)
    wrong = targets.class_log_probability(torch.tensor([2, 0, 1]))
    maps = [peer.maps(fitted.model, IMAGES, asked) for asked in (target(), wrong)]
    assert not torch.allclose(*maps, atol=1e-4) and peer.signed


def test_an_unknown_kind_is_refused(fitted):
    with pytest.raises(ValueError, match="total, decision, redundant, capacity"):
        own.amortised(fitted, "loudness")
