"""What is wrong with a call is said before any work, with what to do."""

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

from milr import MILR

FEW = {
    "steps": 1, "critic_steps": 1, "critic_batches": 1, "moment_batches": 1, "bank": 8,
    "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    return nn.Sequential(*layers).eval()


@pytest.fixture(scope="module")
def explainer(model):
    return MILR(model, "0", "1", members=1).fit([images(8)], energy, **FEW)


def images(count=4):
    return torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def energy(outputs, batch):
    return outputs.square().mean()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"local": 0}, "a layer is named by 0; give its name .* '0'"),
        ({"evidence": (0,)}, "a layer is named by 0"),
        ({"model": energy}, "model is a function; give a torch.nn.Module"),
        ({"beta": math.inf}, "beta is inf; it must be a finite number above 0"),
        ({"beta": "1"}, "beta is '1'; it must be a finite number above 0"),
        ({"members": 2.5}, "members is 2.5; give a whole number, 1 or more"),
        ({"masks": 0}, "masks is 0; give 1 or more"),
        ({"seed": "a"}, "seed is 'a'; give a whole number"),
        ({"seed": -1}, "seed is -1; give 0 or more"),
        ({"seed": 2**32}, r"seed is 4294967296; give a whole number from 0 to below 2\*\*32"),
        ({"beta": None}, "beta is None; it must be a finite number above 0"),
        ({"beta": [1]}, r"beta is \[1\]; it must be a finite number above 0"),
        ({"beta": torch.ones(2)}, "beta is tensor.*; it must be a finite number above 0"),
        ({"critic": ["linear"]}, r"critic is \['linear'\]; it must be one of linear"),
        ({"evidence": 5}, r"evidence is 5; give the names in a tuple: \('5',\)"),
    ],
)
def test_an_explainer_of_what_cannot_be_is_refused(model, given, said):
    layers = {"model": model, "local": "0", "representation": "1"}
    with pytest.raises(ValueError, match=said):
        MILR(**layers | given)


def test_the_largest_seed_there_is_does(model):
    MILR(model, "0", "1", members=1, seed=2**32 - 1).fit([images(8)], energy, **FEW)


def test_no_evidence_is_the_local_layer_alone(model):
    assert MILR(model, "0", "1", None).evidence == ("0",)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"bank": 32.0}, "bank is 32.0; give at least 8, a whole number"),
        ({"steps": 4.0}, "steps is 4.0; give a whole number, 0 or more"),
        ({"critic_steps": None}, "critic_steps is None; give a whole number, 1 or more"),
        ({"learning_rate": 0}, "learning_rate is 0; it must be a finite number above 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"learning_rate": None}, "learning_rate is None; it must be a finite number above 0"),
        ({"ramp": 5}, "ramp is 5; give a share from 0 to 1"),
        ({"ramp": math.nan}, "ramp is nan; give a share"),
        ({"hidden": "much"}, "hidden is 'much'; give a share of z"),
        ({"hidden": None}, "hidden is None; give a share of z"),
    ],
)
def test_a_setting_of_the_fit_is_refused_before_a_batch_is_asked_for(model, given, said):
    with pytest.raises(ValueError, match=said):
        MILR(model, "0", "1").fit(iter([]), energy, **FEW | given)


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        (torch.zeros(8, 3, 6, 6), "batches is a single Tensor; give a list of batches"),
        ({"images": torch.zeros(8, 3, 6, 6)}, "batches is a single dict"),
        (None, "batches is a NoneType; give a list"),
        (lambda: [], "batches is a function; give a list"),
        (
            torch.utils.data.TensorDataset(torch.zeros(8, 3, 6, 6)),
            r"TensorDataset, which gives single samples; .* DataLoader\(dataset",
        ),
        ([{"pixels": torch.zeros(8, 3, 6, 6)}], "mapping with 'pixels', but has no \"images\""),
        ([np.zeros((8, 3, 6, 6))], "a ndarray where its images should be; give a tensor"),
        ([()], "a tuple where its images should be"),
        ([torch.arange(8)], r"the images have shape \(8,\); give a tensor \(B, ...\)"),
    ],
)
def test_batches_that_are_none_are_refused(model, batches, said):
    with pytest.raises(ValueError, match=said):
        MILR(model, "0", "1").fit(batches, energy, **FEW)


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        (None, "the objective is None; give a function"),
        (lambda outputs, batch: {"loss": outputs.mean()}, "gives a dict; give the loss alone"),
        (lambda outputs, batch: (outputs.mean(), 1), "gives a tuple; give the loss alone"),
        (
            lambda outputs, batch: outputs.mean(1),
            r"shape \(8,\); give one number, such as its mean",
        ),
    ],
)
def test_an_objective_that_is_none_is_refused(model, explainer, objective, said):
    with pytest.raises(ValueError, match=said):
        MILR(model, "0", "1").fit([images(8)], objective, **FEW)
    with pytest.raises(ValueError, match=said):
        explainer.refine(images(8), objective)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([torch.zeros(3, 6, 6)], r"a list; give a tensor \(B, ...\).*torch.stack\(images\)"),
        (np.zeros((2, 3, 6, 6)), "a ndarray; give a tensor"),
        ([np.zeros((3, 6, 6))] * 2, r"torch.stack\(\[torch.as_tensor\(image\)"),
        ([torch.zeros(3, 6, 6), torch.zeros(3, 7, 7)], "images that were brought to one size"),
        ([torch.zeros(2, 3, 6, 6), torch.zeros(2)], r"such as batch\[0\]"),
        ([], r"torch.stack\(images\)"),
        (None, "a NoneType; give a tensor"),
    ],
)
def test_images_that_are_no_tensor_are_refused(explainer, given, said):
    for ask in (explainer.explain, explainer.total, explainer.through, explainer.keep):
        with pytest.raises(ValueError, match=said):
            ask(given)


def test_what_the_model_refuses_says_what_it_was_given(explainer):
    for wrong, said in ((images().byte(), "torch.uint8"), (images()[:, :1], "(4, 1, 6, 6)")):
        with pytest.raises(RuntimeError) as found:
            explainer.explain(wrong)
        (note,) = found.value.__notes__
        assert said in note and "the images first" in note


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"steps": -1}, "steps is -1; give 0 or more"),
        ({"steps": 2.5}, "steps is 2.5; give a whole number"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
    ],
)
def test_refining_by_what_cannot_be_is_refused(explainer, given, said):
    with pytest.raises(ValueError, match=said):
        explainer.refine_keep(images(), energy, **given)


def test_a_loss_that_is_no_number_leaves_no_mask(explainer):
    with pytest.raises(ValueError, match="the loss became nan"):
        explainer.refine_keep(images(), lambda outputs, batch: outputs.mean() * math.nan)


def test_a_mask_that_is_no_tensor_is_refused(explainer):
    with pytest.raises(ValueError, match=re.escape("keep is a ndarray; give a tensor of shape")):
        explainer.explain(images(), keep=explainer.keep(images()).numpy())


class Named(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return {"logits": self.model(x)}


def test_outputs_of_another_kind_can_be_explained_but_not_returned(model):
    named = MILR(Named(model).eval(), "model.0", "model.1", members=1)
    named.fit([images(8)], lambda outputs, batch: energy(outputs["logits"], batch), **FEW)
    assert named.explain(images()).decision.isfinite().all()
    with pytest.raises(ValueError, match="the model gives a dict, .* explain a module around"):
        named.through(images())


def test_gradients_are_made_where_none_are_asked_and_not_in_inference_mode(model, explainer):
    with torch.no_grad():
        quiet = MILR(model, "0", "1", members=1).fit([images(8)], energy, **FEW)
        refined = quiet.refine_keep(images(), energy)
    assert torch.equal(quiet.keep(images()), explainer.keep(images()))
    assert torch.equal(refined, explainer.refine_keep(images(), energy))
    with torch.inference_mode():
        assert torch.equal(explainer.keep(images()), quiet.keep(images()))
        for learn in (
            lambda: MILR(model, "0", "1").fit([images(8)], energy, **FEW),
            lambda: explainer.refine(images(), energy),
        ):
            with pytest.raises(ValueError, match="inference_mode.* is on, in which nothing can"):
                learn()
        made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()).eval()
    with pytest.raises(ValueError, match="made under torch.inference_mode"):
        MILR(made, "0", "1").fit([images(8)], energy, **FEW)
    assert all(parameter.requires_grad for parameter in made.parameters())


def test_a_state_that_is_not_whole_is_refused(model, explainer):
    whole = explainer.state()
    with pytest.raises(ValueError, match="there is no history, inserted"):
        MILR(model, "0", "1").load_state({"made with": [], "locations": []})
    broken = whole["inserted"] | {"total_bank": whole["inserted"]["total_bank"] * math.nan}
    with pytest.raises(ValueError, match="were fitted with .* make it with the same layers"):
        MILR(model, "0", "1", members=1, masks=3).load_state(whole)
    with pytest.raises(ValueError, match="NaN or infinite numbers in total_bank"):
        MILR(model, "0", "1", members=1).load_state(whole | {"inserted": broken})
    less = {name: value for name, value in whole["inserted"].items() if name != "total_bank"}
    with pytest.raises(ValueError, match="not all that `state` gives"):
        MILR(model, "0", "1", members=1).load_state(whole | {"inserted": less})


def test_what_is_loaded_in_inference_mode_can_be_refined(model, explainer):
    with torch.inference_mode():
        loaded = MILR(model, "0", "1", members=1).load_state(explainer.state())
    assert torch.equal(
        loaded.refine_keep(images(), energy), explainer.refine_keep(images(), energy)
    )


def test_of_a_whole_batch_it_is_said_which_part_are_the_images(explainer):
    labels = torch.zeros(4)
    wrong = {
        r"are a list; .* torch.stack\(images\) makes": list(images()),
        r"are a tuple; .* such as batch\[0\]": (images(), labels),
        r'are a dict; .* such as batch\["images"\]': {"images": images(), "labels": labels},
        r"are a ndarray; .* torch.as_tensor\(images\) makes": images().numpy(),
    }
    for said, given in wrong.items():
        with pytest.raises(ValueError, match=said):
            explainer.explain(given)
