"""The ledger as a page: counts, a picture of them, a table with links, and two runs compared."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from milr.companion import manifest
from milr.companion.claims import (
    SOURCES,
    STATUSES,
    Claim,
    Evidence,
    Measured,
    Rule,
    Verdict,
    bound,
    judge,
)
from milr.companion.figures import STYLE
from milr.companion.profiles import read_notebook
from milr.companion.results import anchor, recorded
from milr.paths import ROOT

OF_MACHINE = ("s", "MiB")  # units
WIDTH = 5.0  # inches; shrinks to a phone's width and stays readable
# Okabe and Ito's colours, and a sign for those who see none of them.
LOOKS = {
    "reproduced": ("#009E73", "✓", ""),
    "partly": ("#E69F00", "◐", "//"),
    "not reproduced": ("#D55E00", "✗", "xx"),
    "open": ("#FFFFFF", "○", ""),
    "cannot be tested here": ("#BBBBBB", "–", ".."),
}
_SHORT = {"not reproduced": "not", "cannot be tested here": "untestable"}
_SIGNS = {"<=": "≤", ">=": "≥", "==": "=", "!=": "≠"}
_STYLE = """<style>
.milr-ledger { overflow-x: auto; }
.bd-content .cell_output .milr-ledger table.dataframe { border: 0; border-collapse: collapse;
  display: table; font-size: 0.85rem; margin: 0; table-layout: fixed; width: 100%; }
.milr-ledger th, .milr-ledger td { border-bottom: 1px solid var(--pst-color-border, #ccc);
  overflow-wrap: anywhere; padding: 0.5rem 0.6rem; text-align: left; vertical-align: top;
  white-space: normal; }
.milr-ledger th:first-child, .milr-ledger td:first-child { width: 38%; }
.milr-ledger p { margin: 0 0 0.3rem; }
.milr-ledger .small { font-size: 0.9em; opacity: 0.85; }
.milr-ledger .status { border-left: 4px solid; padding-left: 0.4rem; white-space: nowrap; }
@media (max-width: 600px) {
  .bd-content .cell_output .milr-ledger table.dataframe, .milr-ledger tbody, .milr-ledger tr,
  .milr-ledger td { display: block; width: auto !important; }
  .milr-ledger thead { display: none; }
  .milr-ledger td { border: 0; padding: 0.2rem 0.5rem; }
  .milr-ledger td ~ td::before { content: attr(data-head); font-size: 0.9em; opacity: 0.85; }
  .milr-ledger tr { border-bottom: 1px solid var(--pst-color-border, #ccc); padding: 0.6rem 0; }
}
</style>"""


def counts(claims: Sequence[Claim], found: Evidence) -> dict[str, Counter]:
    """How many claims of each source (in the order of `SOURCES`) have each status."""
    table = {source: Counter() for source in SOURCES}
    for claim in claims:
        table[claim.source][judge(claim, found).status] += 1
    return table


def as_text(table: Mapping[str, Counter]) -> str:
    """The counts as lines of text, with their sums."""
    rows = {SOURCES[source]: row for source, row in table.items()}
    rows["all"] = sum(table.values(), Counter())
    lines = [" " * 19 + "".join(f"{_SHORT.get(status, status):>12s}" for status in STATUSES)]
    for name, row in rows.items():
        lines.append(f"{name:19s}" + "".join(f"{row[status]:12d}" for status in STATUSES))
    return "\n".join(lines)


def wanting(claims: Sequence[Claim], found: Evidence) -> list[str]:
    """Chapters (their numbers) that claims ask for and that have no evidence."""
    asked = {key[:2] for claim in claims for rule in claim.rules for key in rule.keys}
    return sorted(asked - found.chapters)


def picture(tables: Mapping[str, Mapping[str, Counter]]) -> Figure:
    """Shares of the statuses in each source's claims, a bar a run: `{name of the run: counts}`."""
    rows = [
        (f"{SOURCES[source]},\n{name}" if len(tables) > 1 else SOURCES[source], table[source])
        for source in SOURCES
        for name, table in tables.items()
    ]
    with plt.style.context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.3 + 0.42 * len(rows)))
        axes = figure.subplots()
        left = np.zeros(len(rows))
        for status, (colour, _, hatch) in LOOKS.items():
            number = np.array([row[status] for _, row in rows])
            share = 100 * number / [max(1, row.total()) for _, row in rows]
            axes.barh(range(len(rows)), share, left=left, label=status, color=colour,
                      hatch=hatch, edgecolor="0.25", linewidth=0.7)  # fmt: skip
            for y in np.flatnonzero(number):
                axes.text(left[y] + share[y] / 2, y, number[y], ha="center", va="center", size=8,
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
            left += share
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.set_xlabel("% of the claims of a source, with their number")
        figure.legend(loc="outside upper center", ncols=3)
    return figure


def places(folder: Path) -> dict[str, tuple[str, str]]:
    """Where the chapters executed in `folder` recorded each result: its cell and its section.

    Those that are no longer there have no page to lead to.
    """
    found = {}
    for name in [notebook.name for notebook in manifest.notebooks(ROOT)]:
        path = folder / "notebooks" / name
        if not path.exists():
            continue
        title = path.stem
        for cell in read_notebook(path)["cells"]:
            if cell["cell_type"] == "markdown":
                title = [title, *headings("".join(cell["source"]))][-1]
            for key in recorded(cell):
                found[key] = (f"{path.stem}.html#{anchor(cell)}", title)
    return found


def headings(markdown: str) -> list[str]:
    """Words of the headings of a text, outside of code."""
    text = re.sub(r"^```.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"^#{1,4} +(.+?) *$", text, re.MULTILINE)
    return [re.sub(r"[$`*]", "", words) for words in found]


def table(
    claims: Sequence[Claim],
    own: Evidence,
    reference: Evidence,
    links: Mapping[str, tuple[str, str]],
) -> str:
    """The claims as a table in HTML; a phone shows each as a block of its own.

    links: of `places`. Without evidence in the reference, its column is left out.
    """
    heads = ["Claim and criterion", "This run", *(["Reference"] if reference.chapters else [])]
    rows = []
    for claim in claims:
        cells = [_claim(claim), _evidence(claim, own, links)]
        if reference.chapters:
            cells.append(_evidence(claim, reference, links))
        named = zip(heads, cells, strict=True)
        inside = "".join(f'<td data-head="{head}">{cell}</td>' for head, cell in named)
        rows.append(f'<tr id="claim-{claim.id}">{inside}</tr>')
    head = "".join(f"<th>{name}</th>" for name in heads)
    return (
        f'{_STYLE}<div class="milr-ledger"><table class="dataframe"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def compare(
    own: Evidence, reference: Evidence, without: Sequence[str] = ()
) -> tuple[list[str], list[str], list[str]]:
    """Return the keys of both that agree, that differ, and of which it can't be told.

    Two numbers differ by more than their intervals if these have no point in common. Unequal
    numbers, one of which has no interval, can't be told apart from chance. What was measured of the
    machine (seconds, memory) is left out, and keys that begin with one of `without`.
    """
    agree, differ, unknown = [], [], []
    for key in [key for key in own.values if key in reference.values]:
        a, b = own.values[key], reference.values[key]
        if a.unit in OF_MACHINE or key.startswith(tuple(without)):
            continue
        if np.isclose(a.value, b.value, rtol=1e-6, atol=1e-9):
            agree.append(key)
        elif a.low == a.high or b.low == b.high:
            unknown.append(key)
        else:
            (differ if a.high < b.low or b.high < a.low else agree).append(key)
    return agree, differ, unknown


def differences(
    differ: Sequence[str], own: Evidence, reference: Evidence, links: Mapping[str, tuple[str, str]]
) -> str:
    """The results that differ in HTML: a line for each chapter, and a click opens its list."""
    lines = []
    for chapter in sorted({key[:2] for key in differ}):
        some = [key for key in differ if key.startswith(chapter)]
        rows = "".join(
            f"<li>{_link(key, links)} {escape(said(own.values[key]))}, "
            f"reference {escape(said(reference.values[key]))}</li>"
            for key in some
        )
        lines.append(
            f"<details><summary>Chapter {chapter}: {len(some)} differ</summary>"
            f'<ul class="small">{rows}</ul></details>'
        )
    return f'{_STYLE}<div class="milr-ledger">{"".join(lines)}</div>' if lines else ""


def origin(kept: Mapping) -> list[str]:
    """Where the numbers of a reference come from, as lines: device, versions, and the commits."""
    commits: dict[str, list[str]] = {}
    for name, chapter in kept["chapters"].items():
        commits.setdefault(chapter["commit"], []).append(name[:2])
    first = (
        f"reference: on {kept['device']}, torch {kept['versions']['torch']}, seed {kept['seed']}"
    )
    return [first] + [
        f"  chapters {', '.join(chapters)}: commit {commit}" for commit, chapters in commits.items()
    ]


def said(one: Measured) -> str:
    """A number with its interval and unit, three digits of each."""
    ends = f" [{one.low:.3g}, {one.high:.3g}]" if one.low != one.high else ""
    return f"{one.value:.3g}{ends}" + (f" {one.unit}" if one.unit else "")


def _claim(claim: Claim) -> str:
    remark = f'<p class="small">{escape(claim.remark)}</p>' if claim.remark else ""
    return (
        f"<p><strong>{escape(claim.says)}</strong></p>"
        f'<p class="small">{escape(", ".join(claim.at))} · {claim.kind}</p>'
        f"<p>{escape(claim.asks)}</p>{remark}"
    )


def _evidence(claim: Claim, found: Evidence, links: Mapping[str, tuple[str, str]]) -> str:
    verdict: Verdict = judge(claim, found)
    colour, sign, _ = LOOKS[verdict.status]
    edge = colour if verdict.status != "open" else "#888888"
    lines = [f'<p class="status" style="border-color:{edge}">{sign} {verdict.status}</p>']
    if verdict.reason:
        lines.append(f'<p class="small">{escape(verdict.reason)}</p>')
    if verdict.status == "open":
        asked = ", ".join(_code(rule.text) for rule in claim.rules)
        return "".join([*lines, f'<p class="small">asked: {asked}</p>'])
    for rule, became in zip(claim.rules, verdict.outcomes, strict=True):
        lines.append(f'<p class="small">{_rule(rule, found, links)}: {became}</p>')
    return "".join(lines)


def _rule(rule: Rule, found: Evidence, links: Mapping[str, tuple[str, str]]) -> str:
    left = f"{_link(rule.key, links)} {escape(said(found.values[rule.key]))}"
    right = escape(said(bound(rule, found.values)))
    if rule.other and rule.factor != 1:
        other = escape(said(found.values[rule.other]))
        right = f"{rule.factor:g} × {_link(rule.other, links)} {other}, which is {right}"
    elif rule.other:
        right = f"{_link(rule.other, links)} {right}"
    return f"{left} {escape(_SIGNS.get(rule.sign, rule.sign))} {right}"


def _link(key: str, links: Mapping[str, tuple[str, str]]) -> str:
    if key not in links:
        return _code(key)
    address, title = links[key]
    return f'<a href="{escape(address)}" title="{escape(title)}">{_code(key)}</a>'


def _code(text: str) -> str:
    """Keys in a table may break behind their points and underscores, and not within a word."""
    broken = re.sub(r"(?<!\d)[._]|[._](?!\d)", r"\g<0><wbr>", escape(text))  # not within 0.05
    return f"<code>{broken}</code>"
