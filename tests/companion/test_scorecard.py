"""The page shows what the ledger says, and leads to where it comes from."""

import json
import re
from collections import Counter

import pytest

from milr.companion import claims, full, scorecard
from milr.companion.claims import Claim, Evidence, Measured


def claim(name, source, *rules, untestable="", says="Said <b> & done."):
    return Claim(name, source, ("figure 5",), "picture", says, "Asked.",
                 tuple(map(claims.rule, rules)), untestable)  # fmt: skip


LEDGER = [
    claim("paper-a", "paper", "05.a > 1"),
    claim("paper-b", "paper", "06.b > 1"),
    claim("nif-c", "nif", untestable="Words."),
]


def evidence(**values):
    return Evidence({f"05.{k}": Measured(*v) for k, v in values.items()}, frozenset({"05"}))


OWN = evidence(a=(2.0, 1.5, 2.5))


def test_counts_are_those_of_the_verdicts():
    table = scorecard.counts(LEDGER, OWN)
    assert table["paper"] == Counter({"reproduced": 1, "open": 1})
    assert table["nif"] == Counter({"cannot be tested here": 1}) and not table["patent"]
    assert scorecard.as_text(table).splitlines()[-1].split() == ["all", "1", "0", "0", "1", "1"]
    assert scorecard.wanting(LEDGER, OWN) == ["06"]


def test_a_result_leads_to_the_cell_that_recorded_it(tmp_path):
    def cell(name, kind, source, *keys):
        outputs = [{"metadata": {"scrapbook": {"name": key}}} for key in keys]
        made = {"cell_type": kind, "id": name, "source": source}
        return made | ({"outputs": outputs} if keys else {})

    equation = "Words.\n\n## Equation 6: the $I(z; y)$\n\n```\n## no heading\n```\n"
    cells = [
        cell("e0", "markdown", "# The title"),
        cell("e1", "code", "record()", "05.early"),
        cell("e2", "markdown", equation),
        cell("e3", "code", "record()", "05.a", "05.a_low"),
        cell("e4", "markdown", "More words."),
        cell("e5", "code", "record()", "05.b"),
    ]
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "05_figures.ipynb").write_text(json.dumps({"cells": cells}))
    gone = {"cells": [cell("e0", "code", "record()", "05.gone")]}
    (tmp_path / "notebooks" / "05_gone.ipynb").write_text(json.dumps(gone))
    links = scorecard.places(tmp_path)
    assert "05.gone" not in links
    assert links["05.early"] == ("05_figures.html#cell-e1", "The title")
    assert links["05.a"] == ("05_figures.html#cell-e3", "Equation 6: the I(z; y)")
    assert links["05.b"] == ("05_figures.html#cell-e5", "Equation 6: the I(z; y)")


def test_the_table_shows_value_interval_status_and_link():
    page = scorecard.table(LEDGER, OWN, Evidence({}), {"05.a": ("05_figures.html#x", "Here")})
    assert 'href="05_figures.html#x"' in page and "2 [1.5, 2.5] &gt; 1: met" in page
    assert page.count("<tr id=") == 3 and "no results of chapter 06" in page and "Words." in page
    assert "Said &lt;b&gt; &amp; done." in page and "Reference" not in page
    assert re.findall(r'class="status"[^>]*>. ([^<]+)<', page) == [
        "reproduced", "open", "cannot be tested here",
    ]  # fmt: skip


def test_the_reference_stands_beside_the_own_run():
    page = scorecard.table(LEDGER, OWN, evidence(a=(0.5, 0.4, 0.6)), {})
    assert "<th>Reference</th>" in page and "0.5 [0.4, 0.6] &gt; 1: missed" in page
    assert "not reproduced" in page


@pytest.mark.parametrize(
    ("other", "expected"),
    [((2.2, 2.0, 2.4), "agree"), ((3.0, 2.6, 3.4), "differ"), ((2.0, 2.0, 2.0), "agree")],
)
def test_two_runs_differ_where_their_intervals_have_no_point_in_common(other, expected):
    sorted_out = scorecard.compare(OWN, evidence(a=other))
    assert dict(zip(("agree", "differ", "unknown"), sorted_out, strict=True))[expected] == ["05.a"]


def test_numbers_without_intervals_cannot_be_told_apart():
    agree, differ, unknown = scorecard.compare(evidence(a=(1.0,) * 3), evidence(a=(1.1,) * 3))
    assert (agree, differ, unknown) == ([], [], ["05.a"])


def test_a_single_number_beside_an_interval_can_not_be_told_from_it():
    # As an accuracy of exactly 1 on a few images, of which the bootstrap makes no interval.
    one, other = evidence(a=(1.0,) * 3), evidence(a=(0.9, 0.85, 0.95))
    assert scorecard.compare(one, other)[2] == ["05.a"]


def test_what_other_data_gave_is_not_compared():
    one, other = evidence(a=(1.0, 0.9, 1.1)), evidence(a=(3.0, 2.9, 3.1))
    assert scorecard.compare(one, other, ["05.a"]) == ([], [], [])
    assert scorecard.compare(one, other, ["05.b"])[1] == ["05.a"]


def test_what_was_measured_of_the_machine_is_not_compared():
    here, there = evidence(a=(1.0, 0.9, 1.1, "s")), evidence(a=(3.0, 2.9, 3.1, "s"))
    assert scorecard.compare(here, there) == ([], [], [])


def test_what_differs_is_counted_by_chapter_and_listed_in_what_a_click_opens():
    far = Measured(3.0, 2.9, 3.1)
    own = Evidence({"05.a": far, "05.b_c": far, "09.c": far}, frozenset())
    other = Evidence({key: Measured(1.0, 0.9, 1.1) for key in own.values}, frozenset())
    page = scorecard.differences(["05.a", "05.b_c", "09.c"], own, other, {})
    assert re.findall("<summary>([^<]+)</summary>", page) == [
        "Chapter 05: 2 differ", "Chapter 09: 1 differ",
    ]  # fmt: skip
    assert page.count("<li>") == 3 and "3 [2.9, 3.1], reference 1 [0.9, 1.1]" in page
    assert scorecard.differences([], own, other, {}) == ""


def test_a_key_breaks_behind_points_and_underscores_alone():
    rule = claim("paper-a", "paper", "05.share_of.bird_20 > 0.5")
    page = scorecard.table([rule], Evidence({}), Evidence({}), {})
    assert "<code>05.<wbr>share_<wbr>of.<wbr>bird_<wbr>20 &gt; 0.5</code>" in page


def test_the_reference_that_is_kept_says_where_it_comes_from():
    kept = full.load()
    first, *commits = scorecard.origin(kept)
    assert "torch" in first and kept["device"] in first
    said = "\n".join(commits)
    for name, chapter in kept["chapters"].items():
        assert re.search(rf"{name[:2]}.*commit {chapter['commit']}", said)


def test_the_picture_names_every_source_and_run():
    table = scorecard.counts(LEDGER, OWN)
    axes = scorecard.picture({"this run": table, "reference": table}).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) == 8 and labels[0] == "the paper,\nthis run"
    assert [text.get_text() for text in axes.texts].count("1") == 6
