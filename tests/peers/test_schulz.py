"""The bottleneck of Schulz et al. against closed forms and a model whose best keep is known."""

import copy
import math

import pytest
import torch
from scipy.optimize import brentq
from torch import nn

from milr.peers import schulz, targets
from milr.peers.targets import Target

FLAT = (torch.zeros(2), torch.ones(2))


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Summing(nn.Module):
    """Features are the pixels; the output is their sum with fixed weights."""

    def __init__(self, weights):
        super().__init__()
        self.features = nn.Identity()
        self.register_buffer("weights", weights)

    def forward(self, images):
        return (self.features(images) * self.weights).flatten(1).sum(1)


def as_is(count):
    return Target(lambda outputs, rows: outputs, (torch.zeros(count),))


def test_bits_at_the_ends_of_the_scale_and_between():
    local = torch.tensor([0.0, 1.0, 2.0, 3.0]).expand(1, 2, 1, 4)
    assert (schulz.bits(local, torch.zeros_like(local), FLAT) == 0).all()
    half = schulz.bits(local, torch.full_like(local, 0.5), FLAT)[0, 0]
    nats = torch.tensor([0.318147, 0.443147, 0.818147, 1.443147])
    assert torch.allclose(half, 2 * nats / math.log(2), atol=1e-5)
    # All is kept: the noise share is clipped at 1e-6.
    r = local[0, 0, 0]
    full = 2 * (-math.log(1e-6) + 0.5 * (r**2 - 1)) / math.log(2)
    found = schulz.bits(local, torch.ones_like(local), FLAT)[0, 0]
    assert torch.allclose(found, full, rtol=1e-4)


def test_moments_are_those_of_a_channel_over_images_and_locations():
    model = nn.Sequential(nn.Conv2d(3, 4, 1)).eval()
    batches = [draw(5, 3, 6, 6, seed=i) for i in range(3)]
    mean, std = schulz.moments(model, "0", batches)
    local = model(torch.cat(batches)).transpose(0, 1).flatten(1)
    assert torch.allclose(mean, local.mean(1), atol=1e-5)
    assert torch.allclose(std, local.std(1, correction=0), atol=1e-5)


def test_a_dead_channel_has_a_deviation_above_zero():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()).eval()
    with torch.no_grad():
        model[0].weight[0], model[0].bias[0] = 0.0, -1.0
    _, std = schulz.moments(model, "1", [draw(4, 3, 5, 5)])
    assert 0 < std[0] < 0.02 * std[1]


def test_per_sample_finds_the_best_keep_of_a_linear_model():
    """With output sum(w x'), each feature's best keep solves w x = (beta / k) dKL/dkeep."""
    values, weights = draw(2, 2, 3, 3).abs() + 0.5, draw(2, 3, 3, seed=1)
    beta, size = 9.0, 18
    keep = schulz.best_keep(
        Summing(weights).eval(), "features", values, as_is(2), FLAT, beta=beta, blur=0,
        steps=500, draws=64, learning_rate=0.05, start=0.0,
    )  # fmt: skip
    for x, w, found in zip(
        values.flatten(1).flatten(), weights.flatten().repeat(2), keep.flatten(), strict=True
    ):

        def slope(k, x=float(x), w=float(w)):
            return beta / size * (1 / (1 - k) - (1 - k) + k * x**2) - w * x

        best = 0.0 if slope(0.0) >= 0 else brentq(slope, 0.0, 1 - 1e-9)
        assert float(found) == pytest.approx(best, abs=0.05)


def test_per_sample_passes_what_the_target_needs_and_nothing_else():
    weights = torch.zeros(2, 4, 4)
    weights[:, 1, 2] = 4.0
    peer = schulz.per_sample("features", FLAT, blur=0.0, steps=30, beta=10.0)
    maps = peer.maps(Summing(weights).eval(), torch.full((2, 2, 4, 4), 1.5), as_is(2))
    assert maps.flatten(1).argmax(1).tolist() == [6, 6]
    assert maps[:, 1, 2].min() > 100 * maps[:, 3, 0].max()


def test_a_keep_does_not_depend_on_the_images_beside_it():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()
    images, target = draw(3, 3, 6, 6), targets.class_log_probability(torch.tensor([0, 1, 2]))
    moments = schulz.moments(model, "0", [images])
    both = schulz.best_keep(model, "0", images, target, moments)
    alone = schulz.best_keep(model, "0", images[1:2], target[1:2], moments)
    assert torch.allclose(both[1:2], alone, atol=1e-4)


def test_optimisation_can_start_from_what_is_known():
    images = draw(1, 2, 3, 3)
    start = draw(1, 2, 3, 3, seed=2)
    keep = schulz.best_keep(
        Summing(torch.ones(2, 3, 3)).eval(), "features", images, as_is(1), FLAT, steps=0, blur=0.0,
        start=start,
    )  # fmt: skip
    assert torch.allclose(keep, start.sigmoid())


def test_the_keep_is_smooth_and_never_above_one():
    spike = torch.zeros(1, 1, 7, 7)
    spike[0, 0, 3, 3] = 1.0
    found = schulz._smooth(spike, 1.0)[0, 0]
    assert float(found.sum()) == pytest.approx(1.0, abs=1e-5)
    assert float(found[3, 4] / found[3, 3]) == pytest.approx(math.exp(-0.5), abs=1e-4)
    assert schulz._smooth(torch.ones(1, 1, 7, 7), 1.0).max() <= 1


@pytest.fixture(scope="module")
def readout():
    """Of a model that sums one channel's left half: all else can be closed."""
    weights = torch.zeros(2, 4, 4)
    weights[0, :, :2] = 1.0
    model = Summing(weights).eval()

    def objective(outputs, images):
        return 20 * (outputs - model(images)).square().mean()

    def batches():
        place = torch.zeros(1, 1, 4, 4)
        place[..., :2] = 3.0  # so that the mask can see where it is
        for seed in range(300):
            yield draw(16, 2, 4, 4, seed=seed) + place

    before = copy.deepcopy(model.state_dict())
    fitted, history = schulz.fit_readout(
        model, "features", ("features",), batches(), objective, beta=1.0, steps=250,
        learning_rate=0.01, blur=0.0,
    )  # fmt: skip
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    return model, fitted, history, next(batches())


def test_readout_learns_to_keep_what_the_objective_needs(readout):
    model, fitted, history, images = readout
    maps = schulz.readout_peer(fitted).maps(model, images, as_is(16))
    assert maps[..., :2].mean() > 3 * maps[..., 2:].mean()
    assert history["nats"][-1] < 0.5 * history["nats"][0] and len(history["loss"]) == 250


def test_readout_needs_no_target(readout):
    model, fitted, _, images = readout
    peer = schulz.readout_peer(fitted)
    other = Target(lambda outputs, rows: -outputs, (torch.zeros(16),))
    assert torch.equal(peer.maps(model, images, as_is(16)), peer.maps(model, images, other))
    assert peer.needs == "nothing" and peer.layer == "features"


def test_with_a_ramp_the_price_comes_later(readout):
    model, _, _, images = readout

    def objective(outputs, images):
        return 20 * (outputs - model(images)).square().mean()

    def keep_of(ramp):
        return schulz.fit_readout(
            model, "features", ("features",), [images] * 50, objective, beta=1000.0, steps=40,
            learning_rate=0.01, blur=0.0, ramp=ramp,
        )[1]["keep"]  # fmt: skip

    sudden, slow = keep_of(0.0), keep_of(1.0)
    assert sudden[10] < slow[10] - 0.05


def test_passes_in_half_precision_teach_nearly_the_same():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Flatten(), nn.Linear(48, 2)).eval()
    images = draw(16, 1, 4, 4)
    clean = model(images).detach()

    def keep_of(precision):
        def objective(outputs, batch):
            assert outputs.dtype == torch.float32
            return 20 * (outputs - clean).square().mean()

        fitted, _ = schulz.fit_readout(
            model, "0", ("0",), [images] * 50, objective, steps=40, precision=precision
        )
        return fitted.keep([model[0](images)] * 2)

    full, half = keep_of("32-true"), keep_of("bf16-mixed")
    assert not torch.equal(full, half)
    assert torch.corrcoef(torch.stack([full.flatten(), half.flatten()]).detach())[0, 1] > 0.98


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 5)])
def test_small_grids_are_smoothed_by_what_they_have(size):
    keep = torch.rand(1, 2, *size, generator=torch.Generator().manual_seed(0))
    found = schulz._smooth(keep, 1.0)
    assert found.shape == keep.shape and found.min() >= keep.min() and found.max() <= keep.max()
    assert torch.equal(found, keep) == (size == (1, 1))


def test_too_few_batches_are_refused():
    model, images = Summing(torch.ones(2, 4, 4)).eval(), draw(4, 2, 4, 4)

    def fit(batches, **settings):
        how = {"steps": 3, "moment_batches": 2, "blur": 0.0} | settings
        return schulz.fit_readout(
            model, "features", ("features",), batches, lambda outputs, _: outputs.mean(), **how
        )

    needed = "2 for the moments, 3 for the mask"
    for count in (0, 1, 4):
        with pytest.raises(ValueError, match=f"the batches ended after {count}, .* takes {needed}"):
            fit(iter([images] * count))
    whole = fit([images] * 5)[1]
    assert len(whole["loss"]) == 3
    assert fit([images])[1] == whole, "what can be gone through again is"
    with pytest.raises(ValueError, match="moment_batches is 0; give 1 or more"):
        fit([images] * 5, moment_batches=0)
    with pytest.raises(ValueError, match="steps is 0; give 1 or more"):
        fit([images] * 5, steps=0)
    with pytest.raises(ValueError, match="no batches for the moments of layer 'features'"):
        schulz.moments(model, "features", [])


def test_batches_with_labels_teach_what_images_teach():
    model, images = Summing(torch.ones(2, 4, 4)).eval(), draw(4, 2, 4, 4)

    def fit(batches, objective):
        return schulz.fit_readout(model, "features", ("features",), batches, objective, steps=3)[1]

    plain = fit([images] * 13, lambda outputs, batch: outputs.square().mean())
    labels = torch.arange(4)
    told = fit([(images, labels)] * 13, lambda out, batch: out.square().mean() + 0 * batch[1].sum())
    assert plain == told
    moments = schulz.moments(model, "features", [(images, labels)])
    assert torch.equal(moments[0], schulz.moments(model, "features", [images])[0])


class Viewing(nn.Module):
    """Flattens by a view, which only some orders in memory allow."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(2, 3, 1)

    def forward(self, images):
        local = self.features(images)
        return local.view(local.size(0), -1).sum(1)


@pytest.mark.parametrize("blur", [0.0, 1.0])
def test_a_model_that_takes_a_view_has_both_bottlenecks(blur):
    model, images = Viewing().eval(), draw(4, 2, 4, 4)
    fitted, _ = schulz.fit_readout(
        model, "features", ("features",), [images], lambda outputs, batch: outputs.square().mean(),
        steps=2, moment_batches=1, blur=blur,
    )  # fmt: skip
    start = torch.zeros(4, 3, 4, 4).to(memory_format=torch.channels_last)
    keep = schulz.best_keep(
        model, "features", images, as_is(4), fitted.moments[0], steps=2, blur=blur, start=start
    )
    assert keep.isfinite().all()


def test_they_learn_also_where_the_caller_asks_for_no_gradients():
    model, images = Summing(draw(2, 3, 3)).eval(), draw(4, 2, 3, 3)
    with torch.no_grad():
        keep = schulz.best_keep(model, "features", images, as_is(4), FLAT, steps=2)
        objective = {"objective": lambda outputs, batch: outputs.square().mean(), "steps": 2}
        settings = {"moment_batches": 1, **objective}
        _, history = schulz.fit_readout(model, "features", ("features",), [images], **settings)
    assert keep.isfinite().all() and len(history["loss"]) == 2
