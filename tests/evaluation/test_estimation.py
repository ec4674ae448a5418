"""Trials on known tasks: what tables, ratios and advice say of made-up and of small real ones."""

import math

import numpy as np
import pytest

from milr.data.known import staircase, tasks
from milr.estimators import direct
from milr.estimators.door import normal_scores
from milr.evaluation import consistency as rules
from milr.evaluation import estimation
from milr.evaluation.estimation import (
    SITUATIONS,
    Plan,
    errors,
    guide,
    ratio_of_errors,
    ratio_of_spreads,
    spread,
    table,
    trials,
    within,
)

SMALL = {"size": 240, "seeds": 2, "steps": 6, "batch": 32}


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("MILR_CACHE", str(tmp_path))
    return tmp_path


def row(method, task, value, seed=0, **others):
    plain = {"family": "normal", "size": 100, "columns": 2, "truth": 1.0, "seconds": 1.0}
    return {**plain, "method": method, "task": task, "value": value, "seed": seed, **others}


MADE_UP = [
    row("infonce", "a", 0.8, 0), row("infonce", "a", 1.0, 1),
    row("infonce", "b", 1.3, 0), row("infonce", "b", 1.5, 1),
    row("ksg", "a", 0.5, 0, seconds=0.1), row("ksg", "a", 0.9, 1, seconds=0.1),
    row("ksg", "b", 1.0, 0, seconds=0.1), row("ksg", "b", 1.4, 1, seconds=0.1),
]  # fmt: skip


def test_a_table_holds_bias_spread_and_error_of_each_method():
    infonce, ksg = table(MADE_UP, ["method"])
    assert infonce["method"] == "infonce" and infonce["tasks"] == 2
    assert infonce["bias"] == pytest.approx(0.15)
    assert infonce["rmse"] == pytest.approx(math.sqrt((0.04 + 0 + 0.09 + 0.25) / 4))
    assert infonce["spread"] == pytest.approx(math.sqrt(0.02))
    assert ksg["spread"] == pytest.approx(2 * infonce["spread"])
    assert ksg["seconds"] == pytest.approx(0.1)


def test_one_seed_has_no_spread():
    assert math.isnan(spread(MADE_UP[:1]))


def test_a_spread_is_that_of_each_method_and_size_and_not_of_the_last():
    steady = [row("infonce", "a", v, s) for s, v in enumerate((1.0, 2.0))]
    wild = [row("ksg", "a", v, s) for s, v in enumerate((0.0, 100.0))]
    variances = (0.5, 5000.0)
    assert spread(steady + wild) == pytest.approx(math.sqrt(sum(variances) / 2))
    assert spread(wild + steady) == pytest.approx(spread(steady + wild))
    larger = [r | {"size": 9} for r in wild]
    (line,) = table([r | {"method": "x"} for r in steady + larger], ["method"])
    assert line["spread"] == pytest.approx(math.sqrt(sum(variances) / 2))


def test_error_maps_are_means_over_seeds_with_gaps():
    found = errors(MADE_UP, ["ksg", "nwj"], ["b", "a"])
    assert np.allclose(found[0], [0.2, -0.3]) and np.isnan(found[1]).all()


def test_estimates_within_reach_are_counted_up_to_the_most_information():
    rows = [*MADE_UP[:4], row("infonce", "c", 9.0, truth=3.5)]
    found, count = within(rows, 0.1001, 2.0)
    near = [abs(r["value"] - r["truth"]) <= 0.1001 for r in MADE_UP[:4]]
    assert count == 2 and found.value == pytest.approx(sum(near) / 4) and 0 < found.value < 1
    assert found.low <= found.value <= found.high and found.low < found.high
    found, count = within(rows, 0.5, 4.0)
    assert count == 3 and found.value == pytest.approx(2 / 3)


def test_ratios_of_spread_and_error_are_over_the_same_tasks():
    extra = [row("ksg", "c", 99.0, 0), row("ksg", "c", -99.0, 1)]
    found = ratio_of_spreads(MADE_UP + extra, "infonce", "ksg")
    assert found.value == pytest.approx(0.5) and found.low <= 0.5 <= found.high
    assert ratio_of_spreads(MADE_UP, "infonce", "infonce").value == 1
    off = ratio_of_errors(MADE_UP + extra, "ksg", "infonce")
    assert off.value == pytest.approx(math.sqrt((0.25 + 0.01 + 0 + 0.16) / (0.04 + 0.09 + 0.25)))


def test_a_spread_of_single_seeds_is_refused():
    with pytest.raises(ValueError, match="two seeds"):
        ratio_of_spreads(MADE_UP[::2], "infonce", "ksg")


def test_the_guide_names_the_best_the_quickest_good_and_the_best_bound():
    good = [row("ksg", t, 1.05, s, seconds=0.1) for t in "ab" for s in (0, 1)]
    best = [row("jsd", t, 1.01, s) for t in "ab" for s in (0, 1)]
    known = [row("vib", t, 1.0, s) for t in "ab" for s in (0, 1)]
    (line,) = guide(MADE_UP[:4] + good + best + known)
    assert line["situation"] == "one column each, up to 2 nats"
    assert (line["best"], line["quickest"], line["bound"]) == (["jsd"], "ksg", "infonce")
    assert guide(MADE_UP)[0]["quickest"] == "none"


def test_the_guide_names_all_that_cannot_be_told_from_the_best():
    # On one task the first is better, on the other the second; the third is far off on both.
    off = {"jsd": (0.1, 0.3), "ksg": (0.3, 0.15), "nwj": (0.9, 0.8)}
    rows = [row(m, t, 1 + o) for m, both in off.items() for t, o in zip("ab", both, strict=True)]
    (line,) = guide(rows)
    assert line["best"] == ["jsd", "ksg"] and line["rmse"] == pytest.approx(math.sqrt(0.05))
    assert guide([one for one in rows if one["task"] == "a"])[0]["best"] == ["jsd", "ksg", "nwj"]


def test_every_task_belongs_to_a_situation():
    plain = {
        name: {
            "columns": 0 if task.locations else sum(s.shape[-1] for s in task.sample(2, 0)),
            "truth": task.truth,
            "family": task.family,
        }
        for name, task in tasks().items()
    }
    lost = [n for n, r in plain.items() if not any(is_in(r) for is_in in SITUATIONS.values())]
    assert lost == []


def test_trials_are_made_once_and_then_read(kept, capsys):
    plan = Plan(**SMALL, names=("normal 1x1, 1 nats", "cross", "map, parity"))
    first = trials(plan)
    assert {r["method"] for r in first if r["family"] == "feature map"} == {
        "infonce", "infonce-paper", "infonce-pooled",
    }  # fmt: skip
    assert {r["method"] for r in first if r["task"] == "cross"} >= {"vib", "ksg", "club", "mine"}
    assert all(r["seed"] in (0, 1) and math.isfinite(r["value"]) for r in first)
    (normal,) = (r for r in first if (r["method"], r["task"], r["seed"]) == ("ksg", "cross", 0))
    bent = (normal_scores(side, side) for side in tasks()["cross"].sample(240, 0))
    assert normal["value"] == pytest.approx(direct.ksg(*bent)[0], abs=0.02)
    capsys.readouterr()
    assert trials(plan) == first
    assert "miss" not in capsys.readouterr().err


def test_ranks_of_few_samples_are_no_grid_to_neighbours(kept):
    few = Plan(**SMALL | {"seeds": 1}, names=("uniform noise, 0.02",), methods=("ksg",))
    (row,) = trials(few)
    x, z = tasks()["uniform noise, 0.02"].sample(240, 0)
    with pytest.raises(ValueError, match="exactly as far"):
        direct.ksg(normal_scores(x, x), normal_scores(z, z))
    assert row["value"] == pytest.approx(direct.ksg(x, z)[0], abs=0.1)


def test_columns_are_bent_and_keep_their_order():
    drawn = np.random.default_rng(0).standard_cauchy((240, 3))
    bent, _ = estimation._bent((drawn, drawn), seed=0)
    assert (bent.argsort(0) == drawn.argsort(0)).all()
    assert bent.std(0) == pytest.approx(1, abs=0.05)
    symbols, z = tasks()["five symbols, clear"].sample(240, 0)
    bent, other = estimation._bent((symbols, z), seed=0)
    assert (bent == normal_scores(symbols, symbols)).all() and len(np.unique(bent)) == 5
    # Critics bend columns anew, and so get what they would get of the columns as they were.
    assert normal_scores(other, other) == pytest.approx(normal_scores(z, z), abs=1e-12)


def test_given_tasks_and_methods_and_negatives_are_what_is_tried(kept):
    few = Plan(**SMALL | {"seeds": 1}, negatives=8, methods=("infonce",))
    found = trials(few, staircase((9, 10)))
    assert [r["truth"] for r in found] == pytest.approx([9, 10])
    assert all(r["value"] <= math.log(8) for r in found)


def test_rules_are_checked_for_each_method(kept):
    found = rules.consistency(Plan(**SMALL, methods=("infonce", "vib", "gaussian")))
    assert list(found) == ["infonce", "vib", "gaussian"]
    assert all(found["gaussian"][rule]["holds"] for rule in rules.RULES)
    assert found["gaussian"]["processed"]["value"] < -0.3


def seeds(*values, error=0.02):
    return [(value, error) for value in values]


def test_a_rule_is_broken_by_what_lies_beyond_three_errors():
    made_up = {"independent": seeds(0.1, 0.1, 0.1, 0.1), "one": seeds(1, 1, 1, 1),
               "processed": seeds(1.10, 1.12, 1.10, 1.12),
               "two copies": seeds(2, 2, 2, 2)}  # fmt: skip
    found = rules._rules(made_up)
    assert [found[rule]["holds"] for rule in rules.RULES] == [False, False, True]
    assert found["two copies"]["error"] == pytest.approx(0.01 * math.sqrt(5))


def test_what_processing_adds_is_judged_seed_by_seed():
    """Seeds far apart, and the same gain in each, which two means side by side would not show."""
    one, more = seeds(0.5, 1.0, 1.5, error=0.3), seeds(0.6, 1.1, 1.61, error=0.3)
    made_up = {"independent": seeds(0, 0), "one": one, "processed": more, "two copies": one}
    found = rules._rules(made_up)["processed"]
    assert found["value"] == pytest.approx(0.31 / 3) and not found["holds"]
    assert found["error"] == pytest.approx(np.std([0.1, 0.1, 0.11], ddof=1) / math.sqrt(3))


def test_rules_ask_for_two_seeds():
    with pytest.raises(ValueError, match="seeds is 1; give 2 or more"):
        rules.consistency(Plan(**SMALL | {"seeds": 1}))


def test_means_over_seeds_take_the_larger_of_both_errors():
    assert rules._mean(seeds(1, 1, 1, 1, error=0.2)) == pytest.approx((1.0, 0.1))
    assert rules._mean(seeds(0.0, 2.0, error=0.01))[1] == pytest.approx(1.0)
