"""The truth of the tasks, by means that made none of it."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from milr.data import known
from milr.data.known import FAMILIES, staircase, tasks, warps
from milr.data.known.maps import graded
from milr.data.known.normal import correlation_of, dense, normal, pairs, student

TASKS = tasks()


def of(*names):
    return [task for task in TASKS.values() if any(name in task.name for name in names)]


def quadrature(task, low: float, high: float, points: int = 1501) -> float:
    """I(x; z) of a pair of single numbers from its log-densities, on a grid."""
    grid = np.linspace(low, high, points)
    x, z = (side.reshape(-1, 1) for side in np.meshgrid(grid, grid, indexing="ij"))
    ratio = task.log_ratio(x, z).reshape(points, points)
    log_z = task.log_marginal(grid[:, None])
    log_x = task.log_marginal(grid[:, None])  # both sides of these tasks have one density
    joint = np.exp(ratio + log_x[:, None] + log_z)
    return integrate.trapezoid(integrate.trapezoid(joint * ratio, grid), grid)


def test_there_are_enough_tasks_from_nothing_to_five_nats():
    truths = [task.truth for task in TASKS.values()]
    assert len(TASKS) >= 30 and min(truths) == 0 and max(truths) == 5
    assert {task.family for task in TASKS.values()} == set(FAMILIES)
    assert all(task.name == name for name, task in TASKS.items())


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_the_mean_log_ratio_of_samples_is_the_truth(task):
    """Monte Carlo: I = E log p(x, z) / p(x) p(z); 20,000 pairs, 4 standard errors."""
    ratio = task.log_ratio(*task.sample(20000, 11))
    ratio = ratio.mean(1) if ratio.ndim == 2 else ratio
    error = ratio.std() / math.sqrt(len(ratio))
    assert abs(ratio.mean() - task.truth) <= 4 * error + 1e-9


@pytest.mark.parametrize("task", [t for t in TASKS.values() if t.truth], ids=lambda task: task.name)
def test_ratios_of_densities_average_to_one_over_shuffled_pairs(task):
    """E' p(x, z) / p(x) p(z) = 1: a ratio that is too large somewhere would show.

    In many dimensions hardly any shuffled pair is one that counts, so there the mean is only
    bounded from above.
    """
    x, z = task.sample(40000, 12)
    ratio = np.exp(task.log_ratio(x, np.roll(z, 1, axis=0)))
    ratio = ratio.mean(1) if ratio.ndim == 2 else ratio
    error = ratio.std() / math.sqrt(len(ratio))
    assert ratio.mean() < 1 + 5 * error
    if task.truth < 0.6:
        assert ratio.mean() == pytest.approx(1, abs=5 * error)


@pytest.mark.parametrize("information", [0.1, 0.5, 1.0])
def test_a_normals_determinants_agree_with_quadrature(information):
    task = normal("", pairs(1, correlation_of(information)), 1)
    assert task.truth == pytest.approx(information, abs=1e-12)
    assert quadrature(task, -8, 8) == pytest.approx(information, abs=1e-8)


def test_the_students_correction_agrees_with_quadrature():
    task = student("", pairs(1, 0.6), 1, 8)
    assert quadrature(task, -60, 60, 2501) == pytest.approx(task.truth, abs=2e-5)
    assert task.truth > normal("", pairs(1, 0.6), 1).truth


def test_mixtures_on_a_finer_and_wider_grid_are_the_same():
    for task in of("two clusters", "cross", "outliers", "uneven corners"):
        assert quadrature(task, -14, 14, 701) == pytest.approx(task.truth, abs=1e-6)


def test_a_symmetric_mixture_of_far_corners_is_a_channel_of_two_bits():
    """Uneven corners at (+-1, +-1): far apart they are a pair of symbols with a known table."""
    table = np.array([[0.45, 0.1], [0.1, 0.35]])
    ratio = np.log(table / np.outer(table.sum(1), table.sum(0)))
    far = known.mixtures.mixture(
        "", [0.45, 0.35, 0.1, 0.1], [(5, 5), (-5, -5), (5, -5), (-5, 5)], [(0.3, 0.3)] * 4, [0] * 4
    )
    assert far.truth == pytest.approx((table * ratio).sum(), abs=1e-6)


@pytest.mark.parametrize("reach", [0.1, 0.75])
def test_added_uniform_noise_agrees_with_numerical_entropy(reach):
    """I = h(z) - h(noise), h(z) by adaptive quadrature of the trapezoid."""
    (task,) = of(f"uniform noise, {reach:g}")

    def integrand(z):
        log_p = float(task.log_marginal(np.array([[z]]))[0])
        return -math.exp(log_p) * log_p if np.isfinite(log_p) else 0.0

    kinks = sorted({reach, 1 - reach})
    entropy = integrate.quad(integrand, -reach, 1 + reach, points=kinks, limit=200)[0]
    assert entropy - math.log(2 * reach) == pytest.approx(task.truth, abs=1e-6)


def test_clear_symbols_tell_all_and_blurred_ones_less():
    clear, blurred = of("five symbols")
    assert blurred.truth < clear.truth < math.log(5)
    nearly = known.mixtures.symbols("", 5, 0.02)
    assert nearly.truth == pytest.approx(math.log(5), abs=1e-3)


@pytest.mark.parametrize("warp", [warps.ASINH, warps.HALF_CUBE, warps.NORMAL_CDF, warps.SWISS_ROLL])
def test_warps_are_undone_by_their_inverses(warp):
    values = np.random.default_rng(0).standard_normal((200, 1))
    assert np.allclose(warp.inverse(warp.forward(values)), values, atol=1e-6)


@pytest.mark.parametrize("warp", [warps.ASINH, warps.HALF_CUBE, warps.NORMAL_CDF])
def test_slopes_of_inverses_are_those_of_differences(warp):
    image = warp.forward(np.random.default_rng(1).uniform(0.2, 2, size=(50, 1)))
    step = 1e-6
    slope = (warp.inverse(image + step) - warp.inverse(image - step))[:, 0] / (2 * step)
    assert np.allclose(np.log(np.abs(slope)), warp.log_slope(image), atol=1e-5)


def test_a_spiral_turns_back_and_keeps_volume():
    warp = warps.spiral([(0, 1), (2, 3)])
    values = np.random.default_rng(2).standard_normal((20, 5))
    assert np.allclose(warp.inverse(warp.forward(values)), values)
    assert not np.allclose(warp.forward(values), values, atol=0.1)
    for row in values:
        steps = 1e-5 * np.eye(5)
        columns = (warp.forward(row + steps) - warp.forward(row - steps)) / 2e-5
        assert abs(np.linalg.det(columns)) == pytest.approx(1, abs=1e-6)


def test_the_channel_is_a_density_of_z():
    reaches = {
        "asinh 1x1": 9,
        "half-cube 1x1": 20,
        "Student-t 1x1": 900,
        "cross": 9,
        "outliers": 12,
    }
    for name, reach in reaches.items():
        (task,) = of(name)
        x, _ = task.sample(3, 5)
        grid = np.linspace(-reach, reach, 200001)[:, None]
        grid = grid[np.abs(grid[:, 0]) > 1e-9]
        for row in x:
            density = np.exp(task.channel(np.broadcast_to(row, grid.shape), grid))
            assert integrate.trapezoid(density, grid[:, 0]) == pytest.approx(1, abs=0.02), name


@pytest.mark.parametrize("task", of("map"), ids=lambda task: task.name)
def test_a_maps_truth_is_the_mean_of_its_locations(task):
    x, z = task.sample(20000, 3)
    assert x.shape[1:] == (len(task.locations), 2)
    assert task.truth == pytest.approx(np.mean(task.locations))
    seen = [
        np.square([stats.pearsonr(x[:, n, 0], z[:, d]).statistic for d in range(z.shape[1])]).max()
        for n in range(x.shape[1])
    ]
    assert np.allclose(-0.5 * np.log1p(-np.array(seen)), task.locations, atol=0.03)


def test_redundant_locations_are_copies_and_parity_needs_two():
    (redundant,) = of("map, redundant")
    x, _ = redundant.sample(10, 0)
    assert (x[:, 1:6] == x[:, :1]).all() and (x[:, 6] != x[:, 0]).all()
    (parity,) = of("map, parity")
    x, z = parity.sample(1000, 0)
    assert (np.sign(x[:, 0, 0] * x[:, 1, 0]) == np.sign(z[:, 0])).all()
    assert graded(3, 1.0)[2] == 0


def test_samples_depend_on_seed_and_task_alone():
    one, other = of("sparse 5x5", "dense 5x5")
    assert all((a == b).all() for a, b in zip(one.sample(9, 4), one.sample(9, 4), strict=True))
    assert (one.sample(9, 4)[0] != one.sample(9, 5)[0]).all()
    assert (one.sample(9, 4)[0] != other.sample(9, 4)[0]).all()


def test_the_staircase_rises_by_one_nat():
    truths = [step.truth for step in staircase()]
    assert np.allclose(truths, range(1, 11))
    assert dense(2, 3)[0, 4] == 0.5
