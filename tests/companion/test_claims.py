"""A status is what the evidence says: it can be flipped, and it can't be typed."""

import json
import textwrap

import pytest

from milr.companion import claims
from milr.companion.claims import Evidence, Measured

ENTRY = """
- id: paper-beak
  source: paper
  at: [section 4, figure 5]
  kind: picture
  says: It lies on the beak.
  asks: There is more on the beak than elsewhere.
  rules: [05.beak > 1]
"""


def ledger(tmp_path, text):
    path = tmp_path / "claims.yml"
    path.write_text(textwrap.dedent(text))
    return claims.load(path)


def found(**values):
    """Evidence of chapter 5: numbers, or (value, low, high)."""
    measured = {
        f"05.{key}": Measured(*(value if isinstance(value, tuple) else [value] * 3))
        for key, value in values.items()
    }
    return Evidence(measured, frozenset({"05"}))


def status(rules, evidence):
    claim = claims.Claim("x", "paper", (), "picture", "", "", tuple(map(claims.rule, rules)))
    return claims.judge(claim, evidence).status


def test_a_claim_is_read_whole(tmp_path):
    (claim,) = ledger(tmp_path, ENTRY)
    assert claim.id == "paper-beak" and claim.at == ("section 4", "figure 5")
    assert claim.rules == (claims.Rule("05.beak", ">", 1.0, "", "05.beak > 1"),)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("source: paper", "source: hearsay"), "source 'hearsay'; allowed are paper"),
        (("kind: picture", "kind: guess"), "kind 'guess'"),
        (("  says: It lies on the beak.\n", ""), "'says' is missing"),
        (("asks: There", "status: reproduced\n  asks: There"), "'status' is not known"),
        (("asks: There", "says: Twice\n  asks: There"), "'says' stands there twice"),
        (("  rules: [05.beak > 1]", ""), "either rules, or a reason"),
        (("rules:", "untestable: Taste.\n  rules:"), "either rules, or a reason"),
        (("rules: [05.beak > 1]", 'untestable: ""'), "either rules, or a reason"),
        (("rules: [05.beak > 1]", "rules: []"), "either rules, or a reason"),
        (("rules: [05.beak > 1]", "untestable: no"), "untestable must be words, and is False"),
        (("05.beak > 1", "05.beak is large"), "can't be read; write KEY SIGN NUMBER"),
        (("[05.beak > 1]", "05.beak > 1"), "rules must be a list"),
    ],
)
def test_a_faulty_entry_is_refused_at_the_door(tmp_path, change, named):
    with pytest.raises(ValueError, match=named) as raised:
        ledger(tmp_path, ENTRY.replace(*change))
    assert "claims.yml" in str(raised.value)


def test_two_claims_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="two claims are called 'paper-beak'"):
        ledger(tmp_path, ENTRY + ENTRY)


@pytest.mark.parametrize(
    ("value", "expected"),
    [((2, 1.5, 2.5), "reproduced"), ((1.2, 0.9, 1.5), "partly"),
     ((0.9, 0.5, 1.3), "not reproduced"), (2, "reproduced"), (1, "not reproduced")],
)  # fmt: skip
def test_the_evidence_flips_the_status(value, expected):
    assert status(["05.beak > 1"], found(beak=value)) == expected


def test_some_rules_met_and_some_missed_is_partly():
    evidence = found(a=1, b=2)
    assert status(["05.a < 05.b", "05.b < 05.a"], evidence) == "partly"
    assert status(["05.a < 05.b", "05.b > 0"], evidence) == "reproduced"
    assert status(["05.a > 05.b", "05.b < 0"], evidence) == "not reproduced"


def test_what_is_not_settled_saves_no_claim_that_misses_the_rest():
    evidence = found(a=(1.2, 0.9, 1.5), b=2)
    assert status(["05.a > 1", "05.b < 0"], evidence) == "not reproduced"
    assert status(["05.a > 1", "05.b > 0"], evidence) == "partly"


@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [
        ("05.a < 05.b", {"a": (1, 0, 2), "b": (3, 2.5, 4)}, "met"),
        ("05.a < 05.b", {"a": (1, 0, 2), "b": (3, 1.5, 4)}, "not settled"),
        ("05.a >= 0.5 * 05.b", {"a": 2, "b": 4}, "met"),
        ("05.a > 0.5 * 05.b", {"a": 2, "b": 4}, "missed"),
        ("05.a > -1 * 05.b", {"a": 0, "b": (4, -1, 5)}, "not settled"),
        ("05.a <= 2", {"a": 2 + 1e-12}, "met"),
        ("05.a == 05.b", {"a": 1 / 3, "b": 0.333333333}, "met"),
        ("05.a == 05.b", {"a": 1 / 3, "b": 0.3334}, "missed"),
        ("05.a == 0", {"a": 1e-12}, "met"),
        ("05.a != 0", {"a": (1, 0.5, 2)}, "met"),
        ("05.a != 0", {"a": (1, -0.5, 2)}, "missed"),
        ("05.a != 0", {"a": 0}, "missed"),
    ],
)
def test_a_rule_is_met_only_at_both_ends_of_the_intervals(rule, values, expected):
    assert claims.outcome(claims.rule(rule), found(**values).values) == expected


def test_keys_may_begin_with_digits_or_hold_hyphens():
    assert claims.rule("08.1000.club-full.rmse > 0.25").key == "08.1000.club-full.rmse"
    assert claims.rule("05.a > 08.1000").other == ""


def write(folder, name, profile, values):
    (folder / "results").mkdir(exist_ok=True)
    content = {"profile": profile, "values": {
        key: {"value": value, "interval": None, "unit": ""} for key, value in values.items()}
    }  # fmt: skip
    (folder / "results" / f"{name}.json").write_text(json.dumps(content))


def test_results_of_a_smoke_run_never_count(tmp_path):
    (claim,) = ledger(tmp_path, ENTRY)
    write(tmp_path, "05_figures", "smoke", {"05.beak": 9.0})
    verdict = claims.judge(claim, claims.evidence(tmp_path))
    assert verdict.status == "open" and "smoke" in verdict.reason
    write(tmp_path, "05_figures", "quick", {"05.beak": 9.0})
    assert claims.judge(claim, claims.evidence(tmp_path)).status == "reproduced"


def test_results_of_a_chapter_that_is_no_longer_there_do_not_count(tmp_path):
    (claim,) = ledger(tmp_path, ENTRY)
    write(tmp_path, "05_gone", "quick", {"05.beak": 9.0})
    assert claims.judge(claim, claims.evidence(tmp_path)).status == "open"


def test_an_open_claim_says_what_is_absent(tmp_path):
    (claim,) = ledger(tmp_path, ENTRY)
    assert "no results of chapter 05" in claims.judge(claim, claims.evidence(tmp_path)).reason
    write(tmp_path, "05_figures", "quick", {"05.tail": 1.0, "05.beak": "long"})
    reason = claims.judge(claim, claims.evidence(tmp_path)).reason
    assert "chapter 05 recorded no 05.beak" in reason


def test_a_claim_that_nothing_can_decide_stays_so(tmp_path):
    text = ENTRY.replace("rules: [05.beak > 1]", "untestable: It is a matter of taste.")
    (claim,) = ledger(tmp_path, text)
    verdict = claims.judge(claim, found(beak=9))
    assert verdict.status == "cannot be tested here" and "taste" in verdict.reason
