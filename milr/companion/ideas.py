"""Several ideas side by side: tables of words and of questions that recorded results answer."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape

from milr.companion.claims import KEY, Evidence, bound, outcome
from milr.companion.claims import rule as read_rule
from milr.companion.scorecard import said

ABSENT = "not measured"
ANSWERS = {"met": "yes", "missed": "no", "not settled": "not settled"}
_HOLE = re.compile(rf"\{{({KEY}):([^}}]*)\}}")
_STYLE = """<style>
.milr-ideas { overflow-x: auto; }
.milr-ideas table.dataframe { border: 0; border-collapse: collapse; font-size: 0.85rem; margin: 0;
  min-width: 34rem; width: 100%; }
.milr-ideas th, .milr-ideas td { border-bottom: 1px solid var(--pst-color-border, #ccc);
  padding: 0.5rem 0.6rem; text-align: left; vertical-align: top; }
</style>"""


def of_chapters(found: Evidence, chapters: Sequence[str]) -> Evidence:
    """The results of these chapters (their numbers) alone."""
    values = {key: one for key, one in found.values.items() if key[:2] in chapters}
    return replace(found, values=values)


def fill(text: str, found: Evidence) -> str:
    """Put results into a text: "{09.fit:.0f}" becomes "42 s", or says that it was not measured.

    A hole is a key and a format; the unit is the one that was recorded.
    """

    def number(hole: re.Match) -> str:
        key, form = hole.groups()
        if key not in found.values:
            return ABSENT
        one = found.values[key]
        return f"{one.value:{form}} {one.unit}".rstrip()

    return _HOLE.sub(number, text)


def answer(text: str, found: Evidence) -> tuple[str, str]:
    """Whether results meet a rule ("yes", "no", "not settled"), and both sides of it in numbers.

    The grammar of rules is that of the ledger. ("not measured", "") if a result is missing. Raises
    ValueError for a rule that can't be read.
    """
    asked = read_rule(text)
    if any(key not in found.values for key in asked.keys):
        return ABSENT, ""
    left, right = said(found.values[asked.key]), said(bound(asked, found.values))
    return ANSWERS[outcome(asked, found.values)], f"{left} against {right}"


def answers(asked: Mapping[str, Sequence[tuple[str, str]]], found: Evidence) -> list[list[str]]:
    """Rows of idea, question, answer, numbers and rule, for {idea: [(question, rule)]}."""
    return [
        [idea, question, *answer(rule, found), rule]
        for idea, some in asked.items()
        for question, rule in some
    ]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """A table of words in HTML, each row's first cell its head; a phone scrolls it.

    Names such as MI-LR are not broken at their hyphen.
    """
    head = "".join(f'<th scope="col">{escape(one)}</th>' for one in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(first).replace("-", "&#8209;")}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return (
        f'{_STYLE}<div class="milr-ideas"><table class="dataframe"><caption>{escape(caption)}'
        f"</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
