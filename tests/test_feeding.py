"""What a fit is fed with: repeats, layouts, heads, and when it is too little."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from milr import MILR
from milr.fitting import _Moments

FEW = {
    "steps": 2, "critic_steps": 2, "critic_batches": 2, "moment_batches": 1, "bank": 8,
    "progress": False,
}  # fmt: skip


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    return nn.Sequential(*layers).eval()


def energy(outputs, batch):
    return outputs.square().mean()


def fit(batches, objective=energy, model=None, layers=("0", "1"), **settings):
    explainer = MILR(model or network(), *layers, members=1)
    return explainer.fit(batches, objective, **FEW | settings)


def test_an_image_that_comes_again_is_one_negative():
    images = draw(12, 3, 6, 6)
    with pytest.warns(UserWarning, match="hold 12 images, the bank 100; .* or bank=12"):
        explainer = fit(images.split(4), bank=100)
    maps = explainer.explain(draw(2, 3, 6, 6, seed=1))
    assert maps.ceiling == pytest.approx(math.log2(13))
    assert explainer.state()["inserted"]["total_bank"].shape[1] == 12
    assert explainer.history["held out total"][1] > 0
    with pytest.raises(ValueError, match="hold 4 images, the bank 64; give more images"):
        fit([images[:4]], bank=64)


def test_a_bank_within_one_pass_is_as_it_comes(recwarn):
    """Images that are alike by chance are samples of their own."""
    images = draw(2, 3, 6, 6)[torch.arange(16) % 2]
    assert fit(images.split(8), bank=16).explain(images).ceiling == pytest.approx(math.log2(17))
    assert not [one for one in recwarn if "the bank" in str(one.message)]


def test_a_bank_of_shuffled_passes_holds_no_image_twice():
    images = torch.utils.data.TensorDataset(draw(24, 3, 6, 6))
    shuffled = torch.utils.data.DataLoader(images, 4, shuffle=True)
    torch.manual_seed(0)
    bank = fit(shuffled, bank=20).state()["inserted"]["total_bank"]
    assert bank.shape[1] == len(bank[0].unique(dim=0)) == 20


def test_a_last_batch_of_one_image_costs_no_fit_that_is_all_but_done():
    sizes = [8, 8, 8, 8, 8, 1, 8]  # the first five are used up when the bank begins
    explainer = fit([draw(size, 3, 6, 6, seed=i) for i, size in enumerate(sizes)], bank=9)
    assert explainer.state()["inserted"]["total_bank"].shape[1] == 9


def test_too_few_batches_are_told_with_how_many_it_takes():
    with pytest.raises(ValueError) as found:
        fit(iter([draw(8, 3, 6, 6)] * 3))
    for words in ("ended after 3", "1 for the moments", "2 for the mask", "2 for the critics"):
        assert words in str(found.value)
    few = iter([draw(8, 3, 6, 6)] * 3)
    once = type("Once", (), {"__iter__": lambda _: few})()
    with pytest.raises(ValueError, match="ended after 3"):
        fit(once)
    with pytest.raises(ValueError, match="batch of one image.*drop_last=True"):
        fit([draw(8, 3, 6, 6), draw(1, 3, 6, 6)])


def test_moments_are_those_of_all_samples_also_of_batches_of_unequal_size():
    x = draw(10, 5, 3) + torch.arange(10.0)[:, None, None]
    moments = _Moments()
    for batch in x.split(7):
        moments.add(batch)
    mean, std = moments.result()
    torch.testing.assert_close(mean, x.flatten(0, 1).mean(0))
    torch.testing.assert_close(std, x.flatten(0, 1).std(0, correction=0))


def test_a_head_that_the_objective_brings_along_gets_no_gradient():
    torch.manual_seed(1)
    head = nn.Linear(2, 5)

    def through_head(outputs, batch):
        return F.cross_entropy(head(outputs), torch.zeros(len(outputs), dtype=torch.long))

    explainer = fit([draw(8, 3, 6, 6)], through_head)
    explainer.refine_keep(draw(2, 3, 6, 6), through_head)
    assert head.weight.grad is None and head.weight.requires_grad
    head.requires_grad_(False)
    without = fit([draw(8, 3, 6, 6)], through_head)
    assert explainer.history["loss"] == without.history["loss"]


def test_a_gradient_by_something_else_than_the_outputs_is_none():
    weight = nn.Parameter(torch.ones(3))
    with pytest.raises(ValueError, match="no gradient by the outputs"):
        fit([draw(8, 3, 6, 6)], lambda outputs, batch: weight.sum())
    explainer = fit([draw(8, 3, 6, 6)])
    with pytest.raises(ValueError, match="no gradient by the outputs"):
        explainer.refine_keep(draw(2, 3, 6, 6), lambda outputs, batch: weight.sum())


class ChannelsLast(nn.Module):
    def __init__(self, columns):
        super().__init__()
        self.local, self.pool, self.columns = nn.Linear(3, 24), nn.Flatten(), columns

    def forward(self, x):
        return self.pool(self.local(x.permute(0, 2, 3, 1)))[:, : self.columns]


class Mixing(nn.Module):
    """All places of its maps hear of all."""

    def forward(self, x):
        return x + x.mean((2, 3), keepdim=True)


def test_channels_that_come_last_raise_an_alarm(recwarn):
    model = ChannelsLast(4).eval()
    with pytest.warns(UserWarning, match=r"6 x 24 locations .* behind a permute\(0, 3, 1, 2\)"):
        fit([draw(8, 3, 6, 6)], model=model, layers=("local", "pool"))
    one = nn.Sequential(nn.Conv1d(3, 4, 3), nn.Flatten()).eval()
    with pytest.warns(UserWarning, match=r"channels first.* behind a permute\(0, 2, 1\)"):
        fit([draw(8, 3, 9)], model=one)
    with pytest.warns(UserWarning, match=r"24 x 24 locations .* behind a permute\(0, 3, 1, 2\)"):
        fit([draw(8, 3, 24, 24)], model=model, layers=("local", "pool"))  # as many as columns
    one = nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten()).eval()
    with pytest.warns(UserWarning, match="channels first"):
        fit([draw(8, 3, 9)], model=one, layers=("2", "3"))
    recwarn.clear()
    fit([draw(8, 3, 6, 6)])
    fit([draw(8, 3, 7, 12)])
    rolled = nn.Sequential(nn.Conv2d(3, 4, 3), Mixing(), nn.AdaptiveAvgPool2d(1)).eval()
    fit([draw(8, 3, 7, 12)], model=rolled, layers=("1", "2"))
    assert not [one for one in recwarn if "permute" in str(one.message)]


def test_tokens_before_images_are_found_out_also_if_there_are_as_many(tokens_first):
    with pytest.raises(ValueError, match=r"'tokens' gives \(8, 7, 4\) for 7 images"):
        fit([draw(8, 8, 3)], model=tokens_first, layers=("tokens", "z"))


def test_in_the_callers_autocast_what_is_inserted_stays_in_full_precision():
    """Of this model autocast changes nothing, so that nothing may change at all."""
    model = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    images, data = draw(2, 3, 6, 6, seed=1), [draw(8, 3, 6, 6)]
    explainer = fit(data, model=model)
    with torch.autocast("cpu", torch.bfloat16):
        again = fit(data, model=model)
        cast = explainer.explain(images), explainer.refine(images, energy), again.explain(images)
        total = explainer.total(images)
    plain = explainer.explain(images), explainer.refine(images, energy), explainer.explain(images)
    for found, expected in zip(cast, plain, strict=True):
        for kind in ("total", "decision", "capacity"):
            assert torch.equal(getattr(found, kind), getattr(expected, kind))
    assert torch.equal(total, plain[0].total)


def test_it_works_also_where_torchs_default_is_double_precision():
    images = draw(2, 3, 6, 6, seed=1)
    data, model = [draw(8, 3, 6, 6)], network()
    torch.set_default_dtype(torch.float64)
    try:
        found = fit(data, model=model)
        maps = found.explain(images)
        keep = found.refine_keep(images, energy)
    finally:
        torch.set_default_dtype(torch.float32)
    assert maps.total.dtype == keep.dtype == torch.float32
    assert maps.total.shape == (2, 4, 4) and maps.total.isfinite().all()


def test_a_representation_that_would_fill_the_memory_raises_an_alarm(monkeypatch, recwarn):
    fit([draw(8, 3, 6, 6)])
    assert not [one for one in recwarn if "row of weights" in str(one.message)]
    monkeypatch.setattr("milr.feeding.WIDE", 60)
    with pytest.warns(UserWarning, match="'0' has 64 numbers for each image"):
        fit([draw(8, 3, 6, 6)], layers=("0", "0"))


class Preparing(nn.Module):
    """Normalises what it is given in place, or beside it."""

    def __init__(self, in_place):
        super().__init__()
        self.network, self.in_place = network(), in_place

    def forward(self, x):
        x = x.sub_(0.5).div_(0.25) if self.in_place else (x - 0.5) / 0.25
        return self.network(x)


def test_a_model_that_prepares_its_images_in_place_is_explained_as_any_other():
    data, images = [draw(8, 3, 6, 6)], draw(2, 3, 6, 6, seed=1)
    before = data[0].clone(), images.clone()
    asked = []
    for in_place in (False, True):
        layers = "network.0", "network.1"
        explainer = fit(data, model=Preparing(in_place).eval(), layers=layers)
        found = explainer.explain(images), explainer.refine(images, energy)
        maps = [getattr(one, kind) for one in found for kind in ("total", "decision", "capacity")]
        maps += [explainer.total(images), explainer.through(images), explainer.keep(images)]
        asked.append(maps + [torch.tensor(explainer.offset)])
        assert torch.equal(data[0], before[0]) and torch.equal(images, before[1])
    for plain, prepared in zip(*asked, strict=True):
        assert torch.equal(plain, prepared)
