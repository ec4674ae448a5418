import math

import pytest
import torch

from milr.bottleneck import MaskNetwork, MaskNetworks, capacity, inject

ZERO, ONE = torch.zeros(1), torch.ones(1)


@pytest.mark.parametrize(
    "r, truth", [(0, 0.318147), (1, 0.443147), (2, 0.818147), (3, 1.443147)]
)  # fmt: skip
def test_capacity_at_half_noise_has_its_closed_form(r, truth):
    mean, std = torch.tensor([3.0]), torch.tensor([2.0])
    value = capacity(mean + r * std, torch.tensor(0.5), mean, std)
    assert float(value) == pytest.approx(truth, abs=1e-6)


def test_capacity_is_the_divergence_that_torch_computes():
    generator = torch.Generator().manual_seed(0)
    x, keep = torch.randn(50, 4, generator=generator), torch.rand(50, 4, generator=generator)
    mean, std = torch.tensor([0.0, 1.0, -2.0, 0.5]), torch.tensor([1.0, 0.5, 2.0, 3.0])
    normal = torch.distributions.Normal
    channel = normal(keep * x + (1 - keep) * mean, (1 - keep) * std)
    truth = torch.distributions.kl_divergence(channel, normal(mean, std))
    torch.testing.assert_close(capacity(x, keep, mean, std), truth, atol=1e-5, rtol=1e-5)


def test_capacity_is_zero_for_pure_noise_and_finite_for_none():
    x = torch.linspace(-3, 3, 7)[:, None]
    assert capacity(x, ZERO, ZERO, ONE).abs().max() < 1e-6
    assert capacity(x, ONE, ZERO, ONE).max() < 20


def gaussian_information(correlation_squared: float) -> float:
    return -0.5 * math.log(1 - correlation_squared)


def linear_weights(keep: float) -> tuple[float, float]:
    """How strongly x and the noise enter x', read off `inject` itself."""
    share = torch.tensor(keep)
    of_x = float(inject(ONE, share, ZERO, ONE, ZERO))
    of_noise = float(inject(ZERO, share, ZERO, ONE, ONE))
    return of_x, of_noise


@pytest.mark.parametrize(
    "squared_correlation, total, decision",
    [(0.64, 0.510826, 0.192831), (1 / 3, 0.202733, 0.091161)],
)
def test_the_gaussian_test_vectors_hold(squared_correlation, total, decision):
    """rho = 0.8, and z = x1 + x2 + n; half of the variance scale is noise on x."""
    of_x, of_noise = linear_weights(0.5)
    signal = of_x**2 / (of_x**2 + of_noise**2)
    assert gaussian_information(squared_correlation) == pytest.approx(total, abs=1e-6)
    assert gaussian_information(squared_correlation * signal) == pytest.approx(decision, abs=1e-6)


def mixture_information(points: torch.Tensor, joint: torch.Tensor, keep: float) -> tuple:
    """I(x'; z), I(x'; x) by quadrature and the mean capacity, for discrete x, in nats."""
    weights = joint.sum(1)
    mean = (weights @ points)[None]
    std = ((weights @ (points - mean) ** 2) ** 0.5)[None]
    grid = torch.linspace(-30, 30, 60001, dtype=torch.float64)[:, None]
    centre, width = inject(points, torch.tensor(keep), mean, std, 0 * points), (1 - keep) * std
    density = torch.distributions.Normal(centre, width).log_prob(grid).exp()  # (grid, x)

    def of(table: torch.Tensor) -> float:
        given = density @ (table / table.sum(0))
        overall = given @ table.sum(0)
        ratio = given / overall[:, None]
        nats = torch.where(given > 1e-200, given * ratio.log(), 0.0)
        return float((nats @ table.sum(0)).sum() * (grid[1] - grid[0]))

    bound = float(weights @ capacity(points[:, None], torch.tensor(keep), mean, std)[:, 0])
    return of(joint), of(torch.diag(weights)), bound


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(3))
def test_what_passes_is_bounded_by_what_enters_and_by_the_capacity(keep, seed):
    generator = torch.Generator().manual_seed(seed)
    points = 2 * torch.randn(4, generator=generator, dtype=torch.float64)
    joint = torch.rand(4, 3, generator=generator, dtype=torch.float64) ** 2
    joint /= joint.sum()
    of_z, of_x, bound = mixture_information(points, joint, keep)
    assert 0 < of_z <= of_x <= bound


def test_noise_of_other_moments_is_still_a_bound_but_loose():
    """Derivations, section 4: the patent's N(0, 1) against the features' own moments."""
    mean, std, keep = torch.tensor([3.0]), torch.tensor([2.0]), torch.tensor(0.5)
    x = mean + std * torch.randn(400_000, generator=torch.Generator().manual_seed(0))[:, None]
    own = capacity(x, keep, mean, std).mean()
    other = capacity(x, keep, ZERO, ONE).mean()
    assert float(own) == pytest.approx(math.log(2) - 0.25, abs=2e-3)
    assert float(other) == pytest.approx(1.943, abs=1e-2)


def test_multiplying_by_a_mask_keeps_what_noise_removes():
    """Derivations, section 6: a bit times any alpha but 0 is still that bit."""
    bit = torch.tensor([[-1.0], [1.0]])
    for alpha in (1.0, 1e-6, 1e-30):
        assert len((alpha * bit).unique()) == 2
    assert capacity(bit, torch.tensor(1e-6), ZERO, ONE).max() < 1e-5


def test_the_mask_starts_open_and_stays_a_share():
    mask = MaskNetwork([6], 4, start=0.9)
    keep = mask([torch.randn(2, 5, 6)], (5,))
    assert keep.shape == (2, 5, 4)
    assert float(keep.detach().mean()) == pytest.approx(0.9, abs=0.02)
    extreme = mask([1e4 * torch.randn(2, 5, 6)], (5,))
    assert extreme.min() >= 0 and extreme.max() <= 1


def test_resizing_after_the_first_layer_is_resizing_before_it():
    torch.manual_seed(0)
    mask = MaskNetwork([3, 2], 4)
    fine, coarse = torch.randn(2, 3, 6, 6), torch.randn(2, 2, 3, 3)
    resized = torch.nn.functional.interpolate(coarse, (6, 6), mode="bilinear")
    torch.testing.assert_close(mask([fine, coarse], (6, 6)), mask([fine, resized], (6, 6)))


@pytest.mark.parametrize("count", [1, 3, 7])
def test_images_are_masked_by_one_network_each_in_turn_or_by_the_mean_of_all(count):
    torch.manual_seed(0)
    networks = MaskNetworks(MaskNetwork([3, 2], 4) for _ in range(3))
    evidence = [torch.randn(count, 3, 6, 6), torch.randn(count, 2, 3, 3)]
    alone = torch.stack([network(evidence, (6, 6)) for network in networks])
    torch.testing.assert_close(networks(evidence, (6, 6)), alone.mean(0))
    for turn in (0, 2, 5):
        found = networks(evidence, (6, 6), turn)
        expected = torch.stack([alone[(turn + i) % 3, i] for i in range(count)])
        torch.testing.assert_close(found, expected)
        networks.zero_grad()
        found.sum().backward()
        # Also those that no image asked have a gradient, 0: processes wait for it.
        assert all(p.grad is not None for p in networks.parameters())


@pytest.mark.parametrize("keep", [-0.1, 1.1])
def test_a_share_outside_its_range_is_refused(keep):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        capacity(ONE, torch.tensor(keep), ZERO, ONE)


def test_gradients_of_the_capacity_agree_with_finite_differences():
    keep = torch.rand(3, 4, dtype=torch.float64).mul(0.8).add(0.1).requires_grad_()
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    mean, std = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x, keep: capacity(x, keep, mean, std), (x, keep))


def test_a_channel_that_is_nearly_open_has_a_price_with_a_gradient_in_lower_precision_too():
    network = MaskNetwork([3], 2, start=0.999)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        keep = network([torch.zeros(1, 4, 3)], (4,))
    assert keep.max() < 1
    price = capacity(torch.zeros(1, 4, 2), keep, torch.zeros(2), torch.ones(2)).mean()
    price.backward()
    assert float(price.detach()) == pytest.approx(math.log(1000) - 0.5, abs=0.05)
    assert (network.last.bias.grad > 0.1).all()
