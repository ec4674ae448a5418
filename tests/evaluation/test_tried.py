"""Ways to a better decision map: they differ in what they say they differ in."""

import pytest
import torch
from torch import nn

from milr import MILR
from milr.data.images import ImageSet
from milr.evaluation import tried
from milr.evaluation.cases import Case
from milr.evaluation.questions import ask
from milr.maps import shared
from milr.models.explainers import Explaining
from milr.peers import targets

IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(7))
TARGET = targets.class_log_probability(torch.tensor([0, 1, 2]))


def fitted(seed=0):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, padding=1), nn.ReLU(), nn.AvgPool2d(8), nn.Flatten(), nn.Linear(16, 3)
    ).eval()
    batches = [torch.randn(8, 3, 32, 32) for _ in range(4)]
    return MILR(model, "0", "3", members=1, seed=seed).fit(
        batches, lambda outputs, _: outputs.square().mean(), steps=2, critic_steps=2,
        critic_batches=2, bank=8, progress=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def ways():
    explainer = fitted()
    return {n: p.maps(explainer.model, IMAGES, TARGET) for n, p in tried.ways(explainer).items()}


def test_every_way_leads_to_a_map_of_its_own(ways):
    names = list(ways)
    for i, name in enumerate(names):
        for other in names[:i]:
            assert not torch.allclose(ways[name], ways[other], rtol=1e-3), (name, other)


def test_smoothing_spreads_a_map_and_adds_little_to_it(ways):
    before, after = ways["surprise"], ways["surprise, smoothed"]
    # Over places of the layer, and not over pixels: peaks lose more than a little.
    assert (after.amax((1, 2)) < 0.75 * before.amax((1, 2))).all()
    assert torch.allclose(after.mean(), before.mean(), rtol=0.1)


def test_a_higher_price_lets_less_through():
    explainer = fitted()
    kept = [
        explainer.around(explainer.model, beta=factor * explainer.beta)
        .refine(IMAGES, lambda outputs, _: -TARGET(outputs).mean(), steps=20)
        .capacity.mean()
        for factor in (0.1, 1, 10)
    ]
    assert kept[0] > kept[1] > kept[2]
    assert explainer.beta == 1


def test_the_cache_is_told_which_explainer_and_which_way():
    one, other = (tried.ways(fitted(seed)) for seed in (0, 1))
    assert len({peer.fitted for peer in [*one.values(), *other.values()]}) == 2 * len(one)
    assert {n: p.fitted for n, p in tried.ways(fitted()).items()} == {
        name: peer.fitted for name, peer in one.items()
    }


def test_shared_maps_stand_on_both_explainers_and_on_the_way():
    image_set = ImageSet(
        torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8), torch.arange(3).repeat(4),
        tuple("abc"), "digest",
    )  # fmt: skip
    model = fitted().model
    questions = ask(image_set.targets, 2, ways=2)

    def keys(seed, fine_seed):
        one = Case(model, [fitted(seed)], image_set, questions, torch.zeros(12, 3))
        return {n: peer.fitted for n, peer in tried.shared_out(one, fitted(fine_seed)).items()}

    assert list(keys(0, 0)) == [
        *(f"refined surprise, {name}" for name in tried.SHARINGS), "surprise, shared"
    ]  # fmt: skip
    each = [keys(0, 0), keys(1, 0), keys(0, 1)]
    assert len({key for found in each for key in found.values()}) == 3 * len(each[0])
    assert keys(0, 0) == each[0]


def test_totals_are_shared_out_by_themselves(monkeypatch):
    image_set = ImageSet(
        torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8), torch.arange(3).repeat(4),
        tuple("abc"), "digest",
    )  # fmt: skip
    model = fitted().model
    one = Case(model, [fitted()], image_set, ask(image_set.targets, 2, ways=2), torch.zeros(12, 3))
    monkeypatch.setattr(tried, "explain", lambda settings, sets: (model, fitted(2)))
    found, others = (tried.totals(Explaining(), {}, one, fitted(seed)) for seed in (1, 3))
    last = "finer, two-layer, surprise"
    assert list(found)[-4:] == [f"{last}, {way}" for way in tried.SHARINGS]
    rows = [last, *list(found)[-4:]]
    assert len({found[row].fitted for row in rows} | {others[row].fitted for row in rows}) == 10
    total, by_itself = (found[row].maps(model, IMAGES, TARGET) for row in rows[:2])
    torch.testing.assert_close(by_itself, shared(total, total, one.cell))
