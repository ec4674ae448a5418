"""Modules explain the weights that they were fitted to, and no others."""

import copy

import pytest
import torch
from torch import nn

from milr import MILR
from milr.weights import Weights, digest

FEW = {
    "steps": 0, "critic_steps": 1, "critic_batches": 1, "moment_batches": 1, "bank": 8,
    "progress": False,
}  # fmt: skip


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def fitted(model) -> MILR:
    return MILR(model, "0", "1", members=1).fit([torch.randn(8, 3, 6, 6)], None, **FEW)


def test_a_buffer_that_is_not_saved_counts_as_well():
    model = network()
    model.register_buffer("scale", torch.ones(3), persistent=False)
    known = Weights(model)
    model.scale.fill_(7)
    with pytest.raises(ValueError, match="weights have changed"):
        known.check(model)
    model.scale.fill_(1)
    known.check(model)


def test_a_model_that_learned_on_is_not_explained_but_around_it():
    model = network()
    explainer, images = fitted(model), torch.randn(2, 3, 6, 6)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        model[0].weight.add_(0.1)
    for ask in (explainer.explain, explainer.total, explainer.through, explainer.keep):
        with pytest.raises(
            ValueError, match="weights have changed since.*fit anew, or ask `around"
        ):
            ask(images)
    assert explainer.around(model).explain(images).total.isfinite().all()
    model.load_state_dict(before)
    assert explainer.explain(images).total.isfinite().all()


def test_what_is_saved_vouches_for_the_weights_of_the_fit(tmp_path):
    model = network()
    explainer, path = fitted(model), tmp_path / "modules.pt"
    with torch.no_grad():
        model[0].weight.add_(0.1)
    explainer.save(path)
    with pytest.raises(ValueError, match="a model with other weights"):
        MILR(model, "0", "1", members=1).load(path)
    assert MILR(network(), "0", "1", members=1).load(path).explain(torch.randn(2, 3, 6, 6))


def test_what_is_saved_around_another_model_is_for_the_one_of_the_fit(tmp_path):
    model, other, path = network(), network(), tmp_path / "modules.pt"
    with torch.no_grad():
        other[0].weight.add_(0.1)
    fitted(model).around(other).around(other, beta=2.0).save(path)
    with pytest.raises(ValueError, match="a model with other weights"):
        MILR(other, "0", "1", members=1).load(path)
    assert MILR(model, "0", "1", members=1).load(path).beta == 2.0


def test_weights_that_moved_and_came_back_are_the_same():
    model = network()
    weights = Weights(model)
    model[0].weight.data = model[0].weight.data.clone()
    weights.check(model)
    model[0].weight.data = model[0].weight.data + 1
    with pytest.raises(ValueError, match="weights have changed"):
        weights.check(model)


def test_what_is_written_through_data_is_noticed():
    model = (
        nn.Sequential(*network(), nn.BatchNorm1d(4)).to(memory_format=torch.channels_last).eval()
    )
    explainer, images = fitted(model), torch.randn(2, 3, 6, 6)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for change in (
        lambda: model[0].weight.data.normal_(),
        lambda: model[0].bias.data[2:].zero_(),
        lambda: model[3].running_mean.data.add_(0.1),
        lambda: model[3].num_batches_tracked.data.add_(1),
    ):
        change()
        with pytest.raises(ValueError, match="weights have changed since"):
            explainer.explain(images)
        for name, value in model.state_dict().items():
            value.data.copy_(before[name])
        assert explainer.explain(images).total.isfinite().all()


class Averaging(nn.Module):
    """Writes what it sees to a buffer, past torch's count of writes."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x):
        self.seen.data.copy_(x.mean(0))
        return x


def test_what_a_pass_itself_writes_through_data_is_no_change():
    explainer = fitted(nn.Sequential(*network(), Averaging()).eval())
    for _ in range(3):
        assert explainer.explain(torch.randn(2, 3, 6, 6)).total.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.bool])
def test_tensors_of_every_kind_have_a_mark(dtype):
    model = network()
    model.register_buffer("long", torch.zeros(3, 700, dtype=dtype)[:, ::2])
    model.register_buffer("wide", torch.ones(1, 3, dtype=dtype).expand(1000, 3))
    model.register_buffer("empty", torch.zeros(0, 3, dtype=dtype))
    model.register_buffer("single", torch.tensor(float("nan")))
    weights = Weights(model)
    weights.check(model)
    weights.check(copy.deepcopy(model))
    model.long.data.fill_(1)
    with pytest.raises(ValueError, match="weights have changed"):
        weights.check(model)


def test_only_a_touched_model_is_read_again(monkeypatch):
    model = network()
    weights = Weights(model)
    monkeypatch.setattr("milr.weights.digest", lambda _: pytest.fail("read anew"))
    weights.check(model)


def test_a_part_without_numbers_has_a_digest():
    model = network()
    model.unused = nn.Linear(2, 2, device="meta")
    assert digest(model) != digest(network())
