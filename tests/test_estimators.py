"""Estimators against known truth, closed forms and each other."""

import math

import numpy as np
import pytest
import torch
from sklearn.feature_selection import mutual_info_regression

from milr.data.known import tasks
from milr.estimators import (
    METHODS,
    Settings,
    bounds,
    critics,
    direct,
    door,
    estimate,
    estimate_many,
)
from milr.estimators.residual import with_normal
from milr.infonce import FORMS, lower_bound, make_critic

ONE = tasks()["normal 1x1, 1 nats"]
SETTINGS = Settings(steps=120, batch=64, seed=1, progress=False)
PROMISED = {
    "lower bound": {"infonce", "infonce-paper", "infonce-pooled", "nwj"},
    "upper bound": {"club", "club-full", "leave-one-out", "vib"},
}


def pairs(n=1000, seed=0, task=ONE):
    return task.sample(n, seed)


def log_ratios(k: int, seed: int) -> torch.Tensor:
    """(k, k) true log-ratios of all pairs of k samples: the critic at its best."""
    x, z = pairs(k, seed)
    ratio = ONE.log_ratio(np.repeat(x, k, axis=0), np.tile(z, (k, 1)))
    return torch.from_numpy(ratio).view(k, k)


@pytest.fixture(scope="module")
def found():
    given = [ONE.sample(2000, 0)]
    return {
        **estimate_many(given, METHODS, SETTINGS, critic="residual", channels=[ONE.channel]),
        "learned": estimate_many(
            given, ["club", "club-full", "leave-one-out"], SETTINGS
        ),
    }  # fmt: skip


@pytest.mark.parametrize("n", [8, 9, 17, 31, 65])
def test_of_samples_in_groups_fewer_are_left_out_than_there_are_groups(n, monkeypatch):
    monkeypatch.setattr(critics, "MOST_SCORES", 64)  # of a group of 8
    x, z = torch.randn(n, 1, 3), torch.randn(n, 2)
    *_, read = critics.read(make_critic("linear", 3, 2), x, z, "infonce", None)
    groups = math.ceil(n / 8)
    assert n - groups < read <= n


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"club", "club-full", "smile"}))
def test_most_methods_come_near_one_nat_of_a_normal(found, method):
    (estimated,) = found[method]
    assert estimated.value == pytest.approx(1, abs=0.12)
    assert 0.005 < estimated.standard_error < 0.08


def test_club_is_far_above_one_nat_even_with_the_true_channel(found):
    """E log p(z|x) - E' log p(z|x) is rho^2 / (1 - rho^2) for a normal: 6.39 at one nat."""
    for method in ("club", "club-full"):
        assert found[method][0].value == pytest.approx(math.e**2 - 1, rel=0.25)


def test_kinds_say_what_is_promised(found):
    for method in METHODS:
        kinds = [kind for kind, members in PROMISED.items() if method in members]
        assert found[method][0].kind == (kinds or ["neither"])[0], method
    for method, (estimated,) in found["learned"].items():
        assert estimated.kind == "neither", method


def test_a_learned_conditional_is_as_good_as_the_channel_for_a_normal(found):
    learned = found["learned"]["leave-one-out"][0].value
    assert learned == pytest.approx(found["leave-one-out"][0].value, abs=0.06)


def test_the_trace_keeps_the_curves(found):
    trace = found["infonce"][0].trace
    assert len(trace["validation"]) == len(trace["step"]) > 1
    assert trace["step"][-1] <= 120 and len(trace["train"]) == trace["step"][-1]
    assert trace["samples"] == 600 and trace["critic"] == "residual"
    learned = found["learned"]["club"][0].trace["validation"]
    assert max(learned) > learned[0]


@pytest.mark.parametrize("method", ["infonce", "nwj", "mine", "jsd"])
def test_training_that_does_harm_leaves_the_start_which_is_the_log_ratio_of_a_normal(method):
    wild = {"critic": "residual", "steps": 4, "learning_rate": 3.0, "progress": False}
    found = estimate(*pairs(3000), method=method, **wild)
    assert found.trace["step"][0] == 0 and found.trace["best"] == found.trace["validation"][0]
    assert found.value == pytest.approx(1, abs=0.15)


def test_independent_pairs_stop_early_and_give_nothing():
    x, z = tasks()["normal 3x3, 0 nats"].sample(600, 3)
    estimated = estimate(x, z, steps=400, patience=3, progress=False)
    assert estimated.trace["step"][-1] < 400
    assert estimated.value <= 3 * estimated.standard_error


def test_the_seed_decides_and_global_generators_stay_as_they_are():
    x, z = pairs(400)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    values = [estimate(x, z, steps=20, seed=s, progress=False).value for s in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()


def test_tensors_are_as_good_as_arrays():
    x, z = pairs(400)
    as_tensors = [torch.from_numpy(side).requires_grad_() for side in (x, z)]
    values = [estimate(*given, steps=10, progress=False).value for given in ((x, z), as_tensors)]
    assert values[0] == values[1]


def test_pairs_trained_side_by_side_are_estimated_as_alone_up_to_their_start():
    given = [pairs(1500, seed) for seed in (0, 1)]
    together = estimate_many(given, ["infonce"], SETTINGS)["infonce"]
    alone = estimate_many(given[1:], ["infonce"], SETTINGS)["infonce"][0]
    assert together[0].value != together[1].value
    assert together[1].value == pytest.approx(alone.value, abs=0.05)


def test_folds_hold_each_sample_out_once():
    x, z = pairs(600)
    one, three = (
        estimate(x, z, steps=60, folds=folds, critic="residual", progress=False) for folds in (1, 3)
    )
    assert (one.trace["samples"], three.trace["samples"]) == (180, 600)
    assert three.standard_error < 0.75 * one.standard_error


@pytest.mark.parametrize("n, folds", [(300, 1), (300, 2), (303, 5)])
def test_parts_share_no_sample_and_each_is_held_out_once(n, folds):
    found = door.splits(n, folds, seed=3)
    assert len(found) == folds
    for parts in found:
        rows = np.concatenate(parts)
        assert len(set(rows)) == len(rows) == (n // folds * folds)
        assert all(len(part) > 0 for part in parts)
    held_out = np.concatenate([parts[2] for parts in found])
    most = round(0.3 * n) if folds == 1 else n // folds * folds
    assert len(set(held_out)) == len(held_out) == most and set(held_out) <= set(range(n))


def with_other_held_out(x, z, parts):
    """The pairs with other, far larger values where they are held out."""
    x, z = x.copy(), z.copy()
    for side in (x, z):
        side[parts[2]] = 50 + np.random.default_rng(5).standard_normal(side[parts[2]].shape)
    return x, z


def test_what_is_learned_from_does_not_depend_on_what_is_held_out():
    (parts,) = door.splits(400, 1, SETTINGS.seed)
    given = pairs(400)
    plain, other = (door.prepared(*p, parts) for p in (given, with_other_held_out(*given, parts)))
    columns = [with_normal(found) for found in (plain, other)]
    for one, another in ((plain, other), columns):
        same = [
            all(np.array_equal(a, b) for a, b in zip(*sides, strict=True))
            for sides in zip(one, another, strict=True)
        ]
        assert same == [True, True, False]


@pytest.mark.parametrize("method, critic", [("infonce", "best"), ("club", "two-layer")])
def test_training_and_choosing_do_not_depend_on_what_is_held_out(method, critic):
    (parts,) = door.splits(400, 1, seed=0)
    given = pairs(400)
    one, other = (
        estimate(*p, method=method, critic=critic, steps=8, progress=False)
        for p in (given, with_other_held_out(*given, parts))
    )
    for name in ("train", "validation", "critic"):
        assert one.trace[name] == other.trace[name]
    assert one.value != other.value


@pytest.mark.parametrize("method", ["vib", "club", "leave-one-out"])
def test_folds_are_held_out_with_a_known_channel_as_well(method):
    x, z = pairs(2000)
    one, five = (
        estimate(x, z, method=method, channel=ONE.channel, folds=folds) for folds in (1, 5)
    )
    assert (one.trace["samples"], five.trace["samples"]) == (600, 2000)
    assert five.standard_error < 0.8 * one.standard_error and five.kind == "upper bound"


def test_the_best_critic_is_the_one_that_validates_best():
    x, z = tasks()["dense 25x25"].sample(800, 0)
    best = estimate(x, z, steps=40, critic="best", progress=False).trace
    kinds = ("three-layer", "residual")
    each = {k: estimate(x, z, steps=40, critic=k, progress=False).trace["best"] for k in kinds}
    assert best["critic"] == max(each, key=each.get) == "residual"
    assert best["best"] == each["residual"]


def test_infonce_is_capped_by_its_negatives():
    x, z = tasks()["normal 1x1, 3.5 nats"].sample(1500, 0)
    few, many = (
        estimate(x, z, steps=100, critic="residual", negatives=k, progress=False).value
        for k in (8, 450)
    )
    assert few < math.log(8) < many < math.log(450)


def test_a_map_is_read_location_by_location():
    task = tasks()["map, redundant"]
    x, z = task.sample(1000, 0)
    (estimated,) = estimate_many([(x, z)], ["infonce"], SETTINGS, critic="three-layer")["infonce"]
    locations = estimated.trace["locations"]
    assert estimated.value == pytest.approx(np.mean(locations), abs=1e-5)
    assert min(locations[:6]) > 0.25 and max(np.abs(locations[6:])) < 0.1


@pytest.mark.parametrize("form", FORMS)
def test_the_infonce_forms_are_those_of_the_method(form):
    scores = torch.randn(6, 3, 6, generator=torch.Generator().manual_seed(0)).double()
    value, influence, locations = bounds.infonce(scores, form)
    assert float(value) == pytest.approx(float(lower_bound(scores, form)))
    assert float(locations.mean()) == pytest.approx(float(value))
    assert float(influence.mean()) == pytest.approx(float(value))


def two_locations(scores: torch.Tensor) -> torch.Tensor:
    """(K, 2, K): the second location is a copy of the first, under a worse critic."""
    return torch.stack([scores, 0.5 * scores + 0.3], dim=1)


SPREAD = {
    "infonce": lambda s: bounds.infonce(s[:, None])[:2],
    "infonce of two locations": lambda s: bounds.infonce(two_locations(s))[:2],
    "infonce-paper": lambda s: bounds.infonce(two_locations(s), "paper")[:2],
    "infonce-pooled": lambda s: bounds.infonce(two_locations(s), "pooled")[:2],
    "donsker_varadhan": bounds.donsker_varadhan,
    "nwj": bounds.nwj,
    "plug_in": bounds.plug_in,
    "leave_one_out": bounds.leave_one_out,
    "club": bounds.club,
    "club_sampled": bounds.club_sampled,
}


@pytest.mark.parametrize("name", SPREAD)
def test_standard_errors_are_the_spread_over_samples(name):
    """A fixed critic (half the true log-ratio), 150 sets of 100 samples."""
    found = [SPREAD[name](0.5 * log_ratios(100, seed)) for seed in range(150)]
    spread = np.std([float(value) for value, _ in found])
    claimed = np.mean([float(influence.std()) / 10 for _, influence in found])
    assert claimed == pytest.approx(spread, rel=0.2)


@pytest.mark.parametrize("name", ["nwj", "donsker_varadhan"])
def test_at_the_true_log_ratio_the_bounds_are_tight(name):
    values = [float(getattr(bounds, name)(log_ratios(150, s))[0]) for s in range(40)]
    assert np.mean(values) == pytest.approx(1, abs=3 * np.std(values) / math.sqrt(40))


def many_tables(function, count: int, k: int) -> torch.Tensor:
    """(count, k, k), what a function of pairs gives for all pairs of k samples, so many times."""
    x, z = (side.reshape(count, k, 1) for side in pairs(count * k))
    columns = [np.broadcast_to(s, (count, k, k)).reshape(-1, 1) for s in (x, z.swapaxes(1, 2))]
    return torch.from_numpy(function(*columns)).view(count, k, k)


def test_the_error_of_sampled_club_knows_that_neighbours_share_a_sample():
    found = [bounds.club_sampled(one) for one in many_tables(ONE.channel, 3000, 40)]
    spread = np.std([float(value) for value, _ in found])
    claimed = math.sqrt(np.mean([float(influence.var()) / 40 for _, influence in found]))
    assert claimed == pytest.approx(spread, rel=0.05)


def test_held_out_donsker_varadhan_lies_above_the_bound_on_average():
    """Why "mine" is no lower bound: few samples, the same critic, a higher value."""
    count = 4000
    few = [float(bounds.donsker_varadhan(s)[0]) for s in many_tables(ONE.log_ratio, count, 6)]
    assert np.mean(few) - 3 * np.std(few) / math.sqrt(count) > 1


def test_clipping_bounds_what_others_can_add():
    scores = torch.tensor([[2.0, 40.0], [40.0, 2.0]])
    assert float(bounds.donsker_varadhan(scores)[0]) == pytest.approx(-38)
    assert float(bounds.donsker_varadhan(scores, clip=5.0)[0]) == pytest.approx(-3)


def test_the_first_corrected_gradient_of_mine_is_that_of_donsker_varadhan():
    scores = torch.randn(1, 5, 1, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = bounds.objective("mine")(scores)
    value, _ = bounds.donsker_varadhan(scores[0, :, 0])
    (corrected,) = torch.autograd.grad(loss.sum(), scores)
    (plain,) = torch.autograd.grad(-value, scores)
    assert loss.item() == pytest.approx(-value.item())
    assert torch.allclose(corrected, plain, atol=1e-6)


def test_later_gradients_of_mine_divide_by_the_running_mean():
    before, now = torch.randn(2, 1, 5, 1, 5, generator=torch.Generator().manual_seed(0)).double()
    now.requires_grad_()
    loss = bounds.objective("mine")
    loss(2 * before)
    (found,) = torch.autograd.grad(loss(now).sum(), now)
    others = ~torch.eye(5, dtype=torch.bool)
    e_before, e_now = (s[0, :, 0][others].detach().exp() for s in (2 * before, now))
    running = bounds.MEMORY * e_before.mean() + (1 - bounds.MEMORY) * e_now.mean()
    # A batch's own gradient is e^f over its own sum; the correction is a factor.
    share = e_now / e_now.sum() * (e_now.mean() / running)
    assert torch.allclose(found[0, :, 0][others], share)
    assert torch.allclose(found[0, :, 0].diagonal(), torch.full((5,), -0.2).double())
    assert abs(e_now.mean() / running - 1) > 0.1


def test_nearest_neighbours_agree_with_scikit_learns():
    x, z = pairs(2000)
    theirs = mutual_info_regression(x, z[:, 0], n_neighbors=3, random_state=0)[0]
    assert direct.ksg(x, z, 3)[0] == pytest.approx(theirs, abs=0.02)


def test_trees_and_all_distances_find_the_same_neighbours():
    x, z = (s.astype(np.float32).astype(float) for s in tasks()["dense 2x2"].sample(500, 0))
    for a, b in zip(direct._by_tree(x, z, 4), direct._by_all(x, z, 4), strict=True):
        assert np.mean(a == b) > 0.99


def tied():
    """Pairs (x, z) whose nearest neighbours are many, by name."""
    random = np.random.default_rng(0)
    x, z, other = random.normal(size=(3, 1000, 1))
    z += x
    again = random.integers(0, 1000, 1000)
    return {
        "rounded": (x.round(), z.round()),
        "rounded to a tenth": (x.round(1), z.round(1)),
        "copies of a rounded column": (np.repeat(x.round(), 5, 1), np.repeat(z.round(), 5, 1)),
        "cut by a ReLU": (np.maximum(x, 0), np.maximum(other, 0)),
        "drawn with replacement": (x[again], z[again]),
    }


@pytest.mark.parametrize("name", tied())
def test_nearest_neighbours_of_which_many_are_as_far_are_refused(name):
    with pytest.raises(ValueError, match="exactly as far as neighbour 3.* add noise as wide"):
        estimate(*tied()[name], method="ksg")


def test_the_noise_that_a_refusal_of_ties_asks_for_gives_a_sound_value():
    x, z = tied()["rounded"]
    g = np.random.default_rng(1)
    x, z = (side + g.uniform(-0.5, 0.5, side.shape) for side in (x, z))
    assert estimate(x, z, method="ksg").value == pytest.approx(0.31, abs=0.06)
    x, z = tied()["cut by a ReLU"]
    x, z = (side + g.uniform(-1e-3, 1e-3, side.shape) for side in (x, z))
    assert estimate(x, z, method="ksg").value == pytest.approx(0, abs=0.06)


def test_ties_on_one_side_alone_are_no_ties():
    x, z = pairs(1000)
    assert estimate(np.maximum(x, 0), z, method="ksg").value > 0.5


def test_nearest_neighbours_stand_an_offset_of_many_columns():
    x, z = pairs(1000)
    many = [np.repeat(side, 5, axis=1) for side in (x, z)]
    plain = estimate(x, z, method="ksg").value
    assert estimate(many[0] + 1e7, many[1], method="ksg").value == pytest.approx(plain, abs=1e-3)


def test_the_normal_estimate_has_no_bias_where_nothing_is_shared():
    random = np.random.default_rng(0)
    values = [
        direct.gaussian(random.standard_normal((80, 6)), random.standard_normal((80, 5)))[0]
        for _ in range(200)
    ]
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(200)
    assert np.std(values) > 0.01


def test_the_normal_columns_multiply_to_the_normals_log_ratio():
    task = tasks()["dense 5x5"]
    x, z = task.sample(20000, 0)
    ((a, b),) = with_normal([(x[:, None], z)])
    product = (a[:, 0, 5:] * b[:, 5:]).sum(1)
    assert np.corrcoef(product, task.log_ratio(x, z))[0, 1] > 0.995
    assert product.mean() == pytest.approx(task.truth, abs=0.03)


def with_nan():
    x, z = pairs(300)
    x[3, 0] = np.nan
    return x, z


def with_constant():
    x, z = pairs(300)
    return np.hstack([x, np.ones_like(x)]), z


X, Z = pairs(300)


@pytest.mark.parametrize(
    "x, z, settings, said",
    [
        (X[:-1], Z, {}, "299 samples of x and 300 of z"),
        (*with_nan(), {}, "x holds 1 values that are NaN or infinite"),
        (X, np.r_[[[np.inf]], Z[1:]], {}, "z holds 1 values"),
        (X[:50], Z[:50], {"batch": 64}, "at least 107 samples, or a batch of at most 30"),
        (*with_constant(), {}, "x has 1 constant columns, the first at 1"),
        (X[:, 0], Z, {}, r"x.reshape\(-1, 1\)"),
        (X, Z[:, None], {}, r"z.reshape\(len\(z\), -1\)"),
        (X > 0, Z, {"method": "ksg"}, "for continuous values"),
        ((9 * X).astype(int), Z, {"method": "ksg"}, "add noise as wide as their steps"),
        ((9 * X).astype(int), Z, {"method": "club"}, "infonce"),
        (X[:, None], Z, {"method": "nwj"}, "a feature map; 'nwj' takes"),
        (X, Z, {"method": "infonse"}, "did you mean 'infonce'"),
        (X, Z, {"critic": "two layers"}, "did you mean 'two-layer'"),
        (X, Z, {"method": "vib"}, "give channel="),
        (X, Z, {"method": "vib", "channel": lambda x, z: z[:3, 0]}, r"\(3,\) for 90 pairs"),
        (X, Z, {"steps": 0}, "steps is 0; give 1 or more"),
        (X, Z, {"folds": 0}, "folds is 0"),
        (X[:120], Z[:120], {"folds": 2}, "which 54 are learned from.* at least 143 samples"),
        (np.c_[X, Z], Z, {"method": "gaussian"}, "is one of z.*infinite"),
        (X, Z, {"folds": len(X)}, "hold 1 out at a time, and 8 are needed"),
        (X, Z, {"negatives": 1}, "negatives is 1; give 2 or more"),
        (X, Z, {"steps": 1.5}, "steps is 1.5; give a whole number"),
        (X, Z, {"batch": 16.0}, "batch is 16.0; give a whole number"),
        (X, Z, {"folds": 2.5}, "folds is 2.5; give a whole number"),
        (X, Z, {"negatives": 3.5}, "negatives is 3.5; give a whole number"),
        (X, Z, {"seed": -1}, "seed is -1; give 0 or more"),
        (X, Z, {"learning_rate": 0.0}, "learning_rate is 0.0; it must be a finite number above 0"),
        (X, Z, {"device": "foo"}, "device is 'foo'; this machine offers cpu"),
        (X, Z, {"method": "ksg", "neighbours": 1.5}, "neighbours is 1.5; give a whole number"),
        (X, Z, {"method": "ksg", "neighbours": 0}, "neighbours is 0"),
        (X, Z, {"method": "ksg", "neighbours": len(X)}, "give 1 or more, and fewer than samples"),
    ],
)  # fmt: skip
def test_wrong_input_is_refused_with_what_to_do(x, z, settings, said):
    with pytest.raises(ValueError, match=said):
        estimate(x, z, **{"batch": 64, "steps": 5, "progress": False, **settings})


@pytest.mark.parametrize(
    "given, methods, channels, said",
    [
        ([], ["ksg"], None, "0 pairs .* and 1 methods; give at least one of each"),
        ([(X, Z)], [], None, "1 pairs .* and 0 methods"),
        ([(X, Z), (X[:200], Z[:200])], ["ksg"], None, "the shapes .*200.* and .*300.*; give those"),
        ([(X, Z)] * 2, ["vib"], [ONE.channel], "1 channels for 2 pairs"),
    ],
)
def test_many_estimates_are_of_pairs_of_one_shape(given, methods, channels, said):
    with pytest.raises(ValueError, match=said):
        estimate_many(given, methods, SETTINGS, channels=channels)


def test_a_known_channel_needs_no_samples_to_learn_from():
    x, z = ONE.sample(100, 0)
    for method in ("vib", "club"):
        found = estimate(x, z, method=method, channel=ONE.channel, progress=False)
        assert math.isfinite(found.value)
    with pytest.raises(ValueError, match="give at least 214 samples"):
        estimate(x, z, method="club", progress=False)


def test_more_folds_lower_the_ceiling():
    x = np.random.default_rng(0).normal(size=(400, 1))
    z = x + 0.01 * np.random.default_rng(1).normal(size=x.shape)
    how = {"critic": "residual", "steps": 20, "batch": 64, "progress": False}
    few, many = (estimate(x, z, folds=folds, **how).value for folds in (5, 20))
    assert many <= math.log(20) < few


def test_a_channel_that_is_no_function_is_refused():
    with pytest.raises(TypeError, match="channel is 3; give a function"):
        estimate(X, Z, method="club", channel=3)


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("method", ["infonce", "club"])
def test_estimators_learn_where_gradients_are_off(off, method):
    settings = {"method": method, "batch": 64, "steps": 5, "progress": False}
    plain = estimate(X, Z, **settings)
    with off():
        assert estimate(torch.tensor(X), Z, **settings).value == plain.value
        assert not torch.is_grad_enabled()


def test_words_are_no_samples():
    with pytest.raises(TypeError, match="real numbers"):
        estimate(np.array([["a"], ["b"]]), Z[:2])


def test_integers_are_welcome_where_no_density_is_meant():
    x = np.random.default_rng(0).integers(0, 3, size=(400, 1))
    assert estimate(x, np.hstack([x == 0, x == 1]), steps=60, progress=False).value > 0.5
