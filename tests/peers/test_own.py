"""MI-LR by the interface of its peers."""

import copy
import math

import pytest
import torch
from torch import nn

from milr import MILR
from milr.maps import resize, shared
from milr.peers import own, targets
from milr.refining import refined_keep


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


def test_asking_copies_nothing_that_was_fitted(fitted):
    model = copy.deepcopy(fitted.model)
    asked = fitted.around(model, beta=7.0)
    assert asked.model is model and asked.beta == 7.0 and fitted.beta != 7.0
    known = [value.data_ptr() for value in fitted.state()["inserted"].values()]
    assert [value.data_ptr() for value in asked.state()["inserted"].values()] == known


@pytest.mark.parametrize("kind", ["total", "decision", "redundant"])
def test_the_surprise_has_a_row_of_its_own_and_no_sign_but_in_a_difference(fitted, kind):
    peer = own.amortised(fitted, kind, "surprise")
    maps = peer.maps(fitted.model, IMAGES, target())
    expected = getattr(fitted.explain(IMAGES, reading="surprise"), kind)
    assert torch.allclose(maps, expected, atol=1e-5)
    assert peer.name == f"MI-LR surprise {kind}" and peer.signed == (kind == "redundant")
    assert peer.signed or bool((maps >= 0).all())


@pytest.mark.parametrize("kind", ["decision", "capacity"])
@pytest.mark.parametrize("reading", ["pointwise", "surprise"])
def test_refining_starts_from_what_was_inferred_and_heeds_the_label(fitted, kind, reading):
    peer = own.refined(fitted, kind, reading, steps=0)
    start = peer.maps(fitted.model, IMAGES, target())
    inferred = getattr(fitted.explain(IMAGES, reading=reading), kind)
    assert torch.allclose(start, inferred, rtol=1e-3, atol=1e-3)
    peer = own.refined(fitted, kind, reading)
    wrong = targets.class_log_probability(torch.tensor([2, 0, 1]))
    maps = [peer.maps(fitted.model, IMAGES, asked) for asked in (target(), wrong)]
    assert not torch.allclose(*maps, atol=1e-4) and peer.needs == "label"


def test_refining_lowers_what_the_bottleneck_of_each_image_costs(fitted):
    local = fitted.model[0](IMAGES).detach()
    found = fitted.state()["inserted"]
    mean, std = (found[f"local {name}"][:, None, None] for name in ("mean", "std"))

    def cost(steps):
        how = {"steps": steps, "draws": 8, "learning_rate": 0.3}
        maps = own.refined(fitted, "capacity", **how).maps(fitted.model, IMAGES, target())
        inserted = fitted._fitted()
        with fitted.frozen_model():
            features = fitted.features(IMAGES)
            keep = refined_keep(
                fitted, features, inserted, IMAGES, IMAGES,
                lambda outputs, _: -target()(outputs).mean(), *how.values(),
            )  # fmt: skip
        keep = keep.transpose(1, 2).unflatten(2, (8, 8))
        noise = torch.randn(64, *local.shape, generator=torch.Generator().manual_seed(1))
        passed = keep * local + (1 - keep) * (mean + std * noise)
        loss = -target().repeated(64)(fitted.model[1:](passed.flatten(0, 1))).mean()
        return float(loss.detach()) + fitted.beta * float(maps.mean()) * math.log(2) / 4

    assert cost(20) < 0.8 * cost(0)


def test_the_steps_are_shared_among_kinds_of_one_question_alone(fitted, monkeypatch):
    made = []
    refine = MILR.refine_keep
    monkeypatch.setattr(MILR, "refine_keep", lambda *a, **k: made.append(1) or refine(*a, **k))
    peers = [own.refined(fitted, *kind) for kind in (["decision"], ["capacity"])]
    peers.append(own.refined(fitted, "decision", "surprise"))
    asked = target()
    alone = [peer.maps(fitted.model, IMAGES, asked) for peer in peers]
    assert len(made) == 3
    with own.masks_kept():
        shared = [peer.maps(fitted.model, IMAGES, asked) for peer in peers]
        assert len(made) == 4
        peers[0].maps(fitted.model, IMAGES + 1, asked)
        peers[0].maps(fitted.model, IMAGES, target())
        peers[0].maps(copy.deepcopy(fitted.model).apply(_halved), IMAGES, asked)
        own.refined(fitted, "capacity", steps=2).maps(fitted.model, IMAGES, asked)
        assert len(made) == 8
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))
    peers[0].maps(fitted.model, IMAGES, asked)
    assert len(made) == 9


def _halved(module):
    if isinstance(module, nn.Conv2d):
        module.weight.data /= 2


def test_refining_leaves_the_explainer_alone(fitted):
    before = {key: value.clone() for key, value in fitted.state()["inserted"].items()}
    own.refined(fitted).maps(fitted.model, IMAGES, target())
    after = fitted.state()["inserted"]
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@pytest.fixture(scope="module")
def coarse(fitted):
    batches = [torch.randn(8, 3, 8, 8) for _ in range(4)]
    return MILR(fitted.model, "2", "3", members=1).fit(
        batches, lambda outputs, batch: outputs.square().mean(), steps=2, critic_steps=2,
        critic_batches=2, bank=8, progress=False,
    )  # fmt: skip


def test_a_layer_s_map_is_shared_out_by_a_finer_total_where_both_look(fitted, coarse):
    peer = own.amortised(coarse, "decision", "surprise")
    made = own.shared(peer, (0.25, 0.75), fitted, 3.0, "shared", power=1)
    maps = resize(coarse.explain(IMAGES, reading="surprise").decision, 8, (0.25, 0.75))
    total = fitted.explain(IMAGES, reading="surprise").total
    found = made.maps(fitted.model, IMAGES, target())
    torch.testing.assert_close(found, shared(maps, total, 3.0, 1), rtol=1e-4, atol=1e-6)
    assert (made.name, made.layer, made.needs) == ("shared", "input", "nothing")


def test_shared_maps_are_told_apart_by_all_they_are_made_from(fitted, coarse):
    peers = own.amortised(coarse), own.amortised(coarse, "total")
    ways = [(3.0, 2.0), (4.0, 2.0), (3.0, 1.0)]
    made = {
        own.shared(peer, (0.5, 0.5), finer, width, "", power).fitted
        for peer in peers
        for finer in (fitted, coarse)
        for width, power in ways
    }
    assert len(made) == 12


def test_an_unknown_kind_is_refused(fitted):
    with pytest.raises(ValueError, match="total, decision, redundant, capacity"):
        own.amortised(fitted, "loudness")
    with pytest.raises(ValueError, match="pointwise, surprise"):
        own.refined(fitted, "decision", "loud")
