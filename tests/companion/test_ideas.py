import json

import pytest

from milr.companion import ideas
from milr.companion.claims import Evidence, Measured
from milr.paths import ROOT

FOUND = Evidence(
    {
        "09.fit": Measured(41.6, 40.0, 43.0, "s"),
        "12.low": Measured(0.2, 0.1, 0.3),
        "12.high": Measured(0.5, 0.4, 0.6),
        "12.wide": Measured(0.4, 0.1, 0.9),
    }
)


def test_texts_are_filled_with_results_or_say_that_there_are_none():
    text = "fit {09.fit:.0f}, then {09.cost.x:.3f}; share {12.low:.0%}, {08.1000.club-full:.1f}"
    found = "fit 42 s, then not measured; share 20%, 0.2"
    hyphened = {"08.1000.club-full": Measured(0.25, 0.2, 0.3)}
    assert ideas.fill(text, Evidence({**FOUND.values, **hyphened})) == found


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("12.low < 12.high", ("yes", "0.2 [0.1, 0.3] against 0.5 [0.4, 0.6]")),
        ("12.low > 12.high", ("no", "0.2 [0.1, 0.3] against 0.5 [0.4, 0.6]")),
        ("12.low < 12.wide", ("not settled", "0.2 [0.1, 0.3] against 0.4 [0.1, 0.9]")),
        ("09.fit < 60", ("yes", "41.6 [40, 43] s against 60")),
        ("11.fit.seconds < 60", ("not measured", "")),
    ],
)
def test_a_rule_is_answered_in_words_and_numbers(rule, expected):
    assert ideas.answer(rule, FOUND) == expected


def test_results_of_other_chapters_are_left_out():
    some = ideas.of_chapters(FOUND, ["12"])
    assert set(some.values) == {"12.low", "12.high", "12.wide"}
    assert ideas.answers({"NIF": [("Short?", "09.fit < 60")]}, some) == [
        ["NIF", "Short?", "not measured", "", "09.fit < 60"]
    ]


def test_a_table_escapes_what_it_shows():
    shown = ideas.table(["idea", "rule"], [["<b>", "x < y"]], "a & b")
    assert "&lt;b&gt;" in shown and "x &lt; y" in shown and "a &amp; b" in shown


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({}, "fitting 2 s (small digits; MNIST is not in this run)"),
        ({"11.fit.seconds": Measured(41.0, 40.0, 42.0, "s")}, "fitting 41 s (MNIST)"),
    ],
)
def test_the_chapter_says_on_which_digits_an_inverse_network_was_fitted(extra, said):
    notebook = json.loads((ROOT / "notebooks" / "13_three_ideas.ipynb").read_text())
    cells = {cell["id"]: "".join(cell["source"]) for cell in notebook["cells"]}
    measured = {"11.fit.digits": Measured(2.0, 1.9, 2.1, "s")} | extra
    here = {"ideas": ideas, "found": Evidence(measured, frozenset())}
    here["HTML"] = lambda page: here.update(page=page)
    for name in ("t04", "t06"):
        exec(cells[name], here)
    assert said in here["page"]
    (answer,) = [row for row in here["answered"] if "less than a minute" in row[1]]
    assert answer[2] == "yes"
