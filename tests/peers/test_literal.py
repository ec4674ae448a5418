"""The paper's literal form, and that it fails in the way that the chapter shows."""

import copy

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from milr import MILR
from milr.peers import literal


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 6, 1), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5)).eval()


def batches(count):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(16, 2, 4, 4, generator=generator) for _ in range(count)]


@pytest.fixture(scope="module")
def fitted(model):
    """With an objective that needs the features: the model's outputs shall stay as they are."""
    copied = copy.deepcopy(model)

    def objective(outputs, images):
        return 10 * (outputs - copied(images)).square().mean()

    explainer = MILR(model, "0", "3")
    return explainer, *literal.fit(explainer, batches(60), objective, beta=1.0, steps=60)


def test_the_divergence_collapses_while_alpha_stays_open(fitted):
    _, _, history = fitted
    assert history["divergence"][-1] < 0.1 * history["divergence"][0]
    assert history["alpha"][-1] > 0.5


def test_the_head_of_a_collapsed_module_knows_nothing_of_z(fitted):
    assert abs(fitted[2]["tied"][-1]) < 0.5


def test_the_shares_are_those_by_which_the_features_are_multiplied(fitted, model):
    explainer, module, _ = fitted
    (images,) = batches(1)
    alpha = literal.shares(explainer, module, images, batch_size=5)
    assert alpha.shape == (16, 16, 6)
    local = explainer.features(images).local
    expected = explainer.run_with(images, alpha * local)
    assert torch.allclose(literal.through(explainer, module, images), expected, atol=1e-5)


def test_the_model_and_its_hooks_are_as_before(fitted, model):
    explainer, module, _ = fitted
    images = batches(1)[0]
    clean = model(images)
    passed = literal.through(explainer, module, images)
    assert passed.shape == clean.shape and not torch.equal(passed, clean)
    assert torch.equal(model(images), clean)


def test_the_moments_go_where_the_module_goes_and_are_not_among_what_it_learned(fitted):
    module = copy.deepcopy(fitted[1]).double()
    assert {value.dtype for pair in module.moments.values() for value in pair} == {torch.float64}
    assert not any(name.endswith(("mean", "std")) for name in module.state_dict())


def test_the_divergence_is_that_of_gaussians():
    mean, log_variance = torch.tensor([0.3, -1.0]), torch.tensor([0.5, -0.2])
    given = Normal(mean, (0.5 * log_variance).exp())
    expected = kl_divergence(given, Normal(0.0, 1.0)).sum()
    assert float(literal.divergence(mean, log_variance)) == pytest.approx(float(expected))


def test_the_ratio_is_that_of_densities():
    z, mean, log_variance = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    ratio = Normal(mean, (0.5 * log_variance).exp()).log_prob(z) - Normal(0.0, 1.0).log_prob(z)
    assert float(literal.log_ratio(z, mean, log_variance)) == pytest.approx(float(ratio.sum()))


@pytest.mark.parametrize(("count", "steps"), [(0, 1), (2, 3)])
def test_too_few_batches_or_steps_are_refused(model, count, steps):
    explainer = MILR(model, "0", "3")
    with pytest.raises(ValueError, match=f"ended after {count}, .* takes {steps} for its steps"):
        literal.fit(
            explainer, iter(batches(count)), lambda out, _: out.square().mean(), steps=steps
        )
    with pytest.raises(ValueError, match="steps is 0; give 1 or more"):
        literal.fit(explainer, batches(2), lambda out, _: out.square().mean(), steps=0)


def test_batches_may_have_labels(model):
    explainer = MILR(model, "0", "3")
    labels = torch.arange(16) % 5

    def objective(outputs, batch):
        return nn.functional.cross_entropy(outputs, batch[1])

    told = [(images, labels) for images in batches(3)]
    assert len(literal.fit(explainer, told, objective, steps=3)[1]["loss"]) == 3
