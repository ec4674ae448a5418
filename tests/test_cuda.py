"""On a GPU as on the CPU: what is fitted, explained and measured there. Skipped without one."""

import pytest
import torch
from torch import nn

from milr import MILR, distributed
from milr.data import birds
from milr.data.images import normalise
from milr.evaluation import cases, measures
from milr.evaluation.questions import ask
from milr.infonce import SeparableCritic, critic_bound
from milr.models import explainers, train
from milr.models.settings import recipe
from milr.peers import literal

pytestmark = pytest.mark.skipif("cuda" not in distributed.devices(), reason="needs a CUDA GPU")

FEW = {"steps": 6, "critic_steps": 6, "critic_batches": 4, "moment_batches": 2, "bank": 32}
SMALL = {"size": 32, "per_species": 12, "steps": 4, "warmup": 1, "validations": 1}


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Full float32: the tensor cores round to 10 bits, which is no error of ours."""
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MILR_CACHE", str(tmp_path / "cache"))


def model():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 12, 3, 2), nn.ReLU()
    pooled = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 3)
    return nn.Sequential(*layers, *pooled).eval()


def batches(count=12):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(8, 3, 17, 17, generator=generator) for _ in range(count)]


def sure(outputs, images):
    return -outputs.softmax(1).amax(1).log().mean()


def fitted(network, **how):
    return MILR(network, "1", "5", ("1", "3"), **how).fit(batches(), sure, progress=False, **FEW)


def test_a_model_on_the_cpu_is_explained_on_the_gpu_and_comes_back_as_it_was():
    network = model()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    there = fitted(network, device="cuda").explain(batches()[0])
    here = fitted(network, device="cpu").explain(batches()[0])
    for name, value in network.state_dict().items():
        assert value.device.type == "cpu" and torch.equal(value, before[name])
    for kind in ("total", "decision", "redundant", "capacity"):
        found, known = getattr(there, kind), getattr(here, kind)
        assert found.device.type == "cpu"
        assert torch.allclose(found, known, atol=1e-3), kind


@pytest.mark.parametrize("reading", ["pointwise", "surprise"])
def test_what_was_fitted_on_the_gpu_is_loaded_and_explains_the_same_on_the_cpu(tmp_path, reading):
    network = model().cuda()
    there = fitted(network)
    there.save(tmp_path / "explainer.pt")
    here = MILR(model(), "1", "5", ("1", "3")).load(tmp_path / "explainer.pt")
    images = batches()[0]
    one, other = (e.explain(images, reading=reading) for e in (there, here))
    for kind in ("total", "decision", "redundant", "capacity"):
        assert torch.allclose(getattr(one, kind), getattr(other, kind), atol=1e-3), kind


def test_what_lay_on_the_cpu_goes_back_there():
    """Or else what many explainers keep, of large grids, would fill the GPU."""
    loaded = MILR(model(), "1", "5", ("1", "3"), device="cuda").load_state(fitted(model()).state())
    loaded.explain(batches()[0])
    assert {value.device.type for value in loaded._inserted.state_dict().values()} == {"cpu"}


def test_what_was_fitted_lies_where_the_model_does():
    explainer = fitted(model(), device="cuda")
    assert {value.device.type for value in explainer._inserted.state_dict().values()} == {"cpu"}


def test_a_model_that_was_explained_in_inference_can_still_learn():
    network = model()
    explainer = fitted(network, device="cuda")
    with torch.inference_mode():
        explainer.explain(batches()[0])
    sure(network(batches()[0]), None).backward()


def test_the_random_numbers_there_are_left_alone():
    state = fitted(model()).state()
    other = MILR(model(), "1", "5", ("1", "3"))  # made here: `model` seeds all devices
    torch.cuda.manual_seed(5)
    expected = torch.rand(3, device="cuda")
    torch.cuda.manual_seed(5)
    other.load_state(state)
    assert torch.equal(torch.rand(3, device="cuda"), expected)


def test_refining_and_passing_work_there():
    there = fitted(model().cuda())
    here = MILR(model(), "1", "5", ("1", "3")).load_state(there.state())
    images = batches()[0]
    masks = [e.refine_keep(images, sure, steps=3) for e in (there, here)]
    assert torch.allclose(*masks, atol=1e-3)
    assert torch.allclose(there.through(images), here.through(images), atol=1e-3)


def trained(device):
    return train.train(recipe("birds", device=device, precision="32-true", **SMALL))


def test_a_network_learns_there_as_on_the_cpu_and_stays_there():
    (there, seen), (here, known) = trained("cuda"), trained("cpu")
    assert {p.device.type for p in there.parameters()} == {"cuda"}
    assert {p.device.type for p in here.parameters()} == {"cpu"}
    # Adam divides by the size of the gradient, so that small ones carry rounding far: two steps.
    assert seen["loss"][:2] == pytest.approx(known["loss"][:2], rel=1e-2)


def test_all_methods_explain_and_are_measured_there_as_on_the_cpu():
    settings = recipe("birds", device="cuda", precision="32-true", **SMALL)
    how = {"steps": 3, "critic_steps": 3, "critic_batches": 3, "bank": 32}
    network, explainer = explainers.explain(explainers.Explaining(settings, **how))
    image_set = birds.load("novel", SMALL["per_species"], size=SMALL["size"])
    questions = ask(image_set.targets, 4, ways=5, seed=0)
    there = cases.case(network, [explainer], image_set, questions)
    found = cases.maps_of(there, cases.methods(there))
    moments = [moment.cpu() for moment in there.moments]
    curves = measures.removals(there, found)

    network.cpu()
    explainer.device = "cpu"
    here = cases.case(network, [explainer], image_set, questions)
    known = cases.maps_of(here, cases.methods(here))
    assert all(torch.allclose(a, b.cpu()) for a, b in zip(moments, here.moments, strict=True))
    for name, (expected,) in known.items():
        (got,) = found[name]
        unlike = float((got - expected).norm() / expected.norm().clamp_min(1e-12))
        # Its noise is drawn where the model is, and another generator draws other numbers there.
        allowed = 0.5 if name == "SmoothGrad" else 0.05
        assert unlike < allowed, f"{name}: {unlike:.3f}"
    assert curves.keys() == measures.removals(here, known).keys()


def test_the_literal_form_that_was_kept_goes_where_the_model_is():
    there = fitted(model().cuda())
    module, _ = literal.fit(there, batches(), sure, steps=2)
    expected = literal.through(there, module, batches()[0])
    kept = literal.Literal({name: (a.cpu(), b.cpu()) for name, (a, b) in module.moments.items()})
    kept.load_state_dict({name: value.cpu() for name, value in module.state_dict().items()})
    assert torch.allclose(literal.through(there, kept, batches()[0]), expected)


def test_the_bound_of_many_locations_needs_little_memory_there():
    """As on the CPU: 3136 locations, 256 samples, 128 dimensions stay below 1.5 GiB."""
    u = torch.randn(256, 3136, 128, device="cuda", requires_grad=True)
    v = torch.randn(256, 128, device="cuda", requires_grad=True)
    critic = SeparableCritic(128, 128, 128).cuda()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    critic_bound(critic, u, v).backward()
    assert torch.cuda.max_memory_allocated() - before < 1.5 * 2**30


def test_images_may_lie_on_the_gpu_already():
    there = fitted(model().cuda())
    images = batches()[0]
    assert torch.equal(there.explain(images.cuda()).total, there.explain(images).total)
    assert normalise(torch.zeros(1, 3, 4, 4, dtype=torch.uint8, device="cuda")).is_cuda
