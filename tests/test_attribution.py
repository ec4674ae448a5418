import pytest
import torch
from torch import nn
from torch.nn import functional

from milr import MILR

captum = pytest.importorskip("captum", reason="captum is not installed")


@pytest.fixture(scope="module")
def explainer():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 2),
    ).eval()  # fmt: skip
    batches = [(torch.randn(8, 3, 9, 9), torch.randint(2, (8,))) for _ in range(4)]
    return MILR(model, "0", "2").fit(
        batches, lambda outputs, batch: functional.cross_entropy(outputs, batch[1]),
        steps=3, critic_steps=3, critic_batches=2, moment_batches=2, bank=8, progress=False,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["total", "decision", "redundant", "capacity"])
def test_the_channels_add_up_to_the_map_at_the_inputs_resolution(explainer, kind):
    from milr.attribution import InformationMaps

    images = torch.randn(4, 3, 9, 9)
    found = InformationMaps(explainer, kind).attribute(images)
    assert found.shape == images.shape
    expected = getattr(explainer.explain(images).resized((9, 9)), kind)
    torch.testing.assert_close(found.sum(1), expected)


def test_the_reading_is_the_one_that_was_asked_for(explainer):
    from milr.attribution import InformationMaps

    images = torch.randn(4, 3, 9, 9)
    found = InformationMaps(explainer, "decision", reading="surprise").attribute(images)
    expected = explainer.explain(images, reading="surprise").resized((9, 9)).decision
    torch.testing.assert_close(found.sum(1), expected)
    with pytest.raises(ValueError, match="pointwise, surprise"):
        InformationMaps(explainer, "decision", reading="loud")


def test_captums_metrics_take_the_maps(explainer):
    from captum.metrics import infidelity

    from milr.attribution import InformationMaps

    images = torch.randn(4, 3, 9, 9)
    maps = InformationMaps(explainer, "decision").attribute(images)

    def noise(inputs):
        change = 0.1 * torch.randn_like(inputs)
        return change, inputs - change

    found = infidelity(explainer.model, noise, images, maps, target=0, n_perturb_samples=2)
    assert found.shape == (4,) and (found >= 0).all()


def test_wrong_use_is_refused(explainer):
    from milr.attribution import InformationMaps

    with pytest.raises(ValueError, match="total, decision, redundant, capacity"):
        InformationMaps(explainer, "gradient")
    with pytest.raises(ValueError, match=r"give images \(B, C, H, W\)"):
        InformationMaps(explainer).attribute(torch.zeros(4, 3))


def test_captums_tuples_and_repetitions_are_understood(explainer):
    from captum.attr import NoiseTunnel
    from captum.metrics import sensitivity_max

    from milr.attribution import InformationMaps

    images, asked = torch.randn(2, 3, 9, 9), InformationMaps(explainer, "total")
    (found,) = asked.attribute((images,))
    assert torch.equal(found, asked.attribute(images))
    changed = sensitivity_max(asked.attribute, images, n_perturb_samples=2)
    assert changed.shape == (2,) and (changed > 0).all()
    assert NoiseTunnel(asked).attribute(images, nt_samples=2).shape == images.shape
    with pytest.raises(ValueError, match="inputs are a tuple; give one tensor"):
        asked.attribute((images, images))


def test_a_target_is_said_to_be_of_no_account(explainer):
    from milr.attribution import InformationMaps

    images, asked = torch.randn(2, 3, 9, 9), InformationMaps(explainer, "total")
    with pytest.warns(UserWarning, match="whatever target is; leave it out"):
        found = asked.attribute(images, target=1)
    assert torch.equal(found, asked.attribute(images))


def test_what_it_does_not_know_is_refused_and_captums_own_are_said_to_be_of_no_account(explainer):
    from milr.attribution import InformationMaps

    maps, images = InformationMaps(explainer), torch.randn(2, 3, 9, 9)
    with pytest.raises(TypeError, match="reading"):
        maps.attribute(images, reading="surprise")
    with pytest.warns(UserWarning, match="whatever baselines is"):
        maps.attribute(images, baselines=images)
