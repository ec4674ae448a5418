"""The ledger is complete, and asks for what the chapters record."""

import ast
import itertools
import json
import re

import pytest

from milr.companion import claims, full, manifest
from milr.paths import ROOT

LEDGER = claims.load()
# What the sources number or show; the poster's table and the patent's items have no captions.
SHOWN = {
    "paper": [f"figure {n}" for n in range(1, 7)] + [f"equation {n}" for n in range(1, 11)],
    "patent": [f"figure {n}" for n in range(1, 7)] + [f"item {n}" for n in range(1, 7)]
    + [f"section {n}" for n in range(1, 4)],
    "mip-in": [f"figure {n}" for n in range(1, 6)],
    "nif": [f"equation {n}" for n in range(1, 5)] + ["table of K-S tests"],
}  # fmt: skip
# Sections of the paper that claim or show something.
SHOWN["paper"] += ["abstract", "section 2", "section 3.4.1", "section 3.4.2", "section 3.4.3"]
SHOWN["paper"] += [f"section 4.1.{n}" for n in range(1, 5)] + ["section 5"]
CHAPTERS = {path.name[:2]: path for path in manifest.notebooks(ROOT)}
KEYS = sorted({key for claim in LEDGER for rule in claim.rules for key in rule.keys})


@pytest.mark.parametrize("source", SHOWN)
def test_everything_that_a_source_shows_has_an_entry(source):
    named = {place for claim in LEDGER if claim.source == source for place in claim.at}
    assert [place for place in SHOWN[source] if place not in named] == []


def test_the_ledger_is_long_enough_and_its_names_tell_the_source():
    assert len(LEDGER) >= 30
    assert [c.id for c in LEDGER if not c.id.startswith(f"{c.source}-")] == []


def test_every_key_of_a_chapter_that_exists_is_recorded_there():
    written = {number: patterns(path) for number, path in CHAPTERS.items()}
    lost = [key for key in KEYS if key[:2] in written and not is_written(key, written[key[:2]])]
    assert lost == [], "claims.yml asks for results that no cell of the chapter records"


def test_every_key_is_in_the_reference_as_far_as_its_chapters_are():
    reference = full.evidence(full.load())
    asked = [key for key in KEYS if key[:2] in reference.chapters]
    assert [key for key in asked if key not in reference.values] == []


def test_the_scorecard_is_made_last_and_anew_when_the_ledger_or_the_reference_changes():
    scorecard = CHAPTERS["14"]
    others = [path.stem for number, path in CHAPTERS.items() if number != "14"]
    assert manifest.needs(scorecard) == others
    assert manifest.reads(scorecard) == ["data/claims.yml", full.REFERENCE]


def test_the_search_for_keys_finds_what_is_recorded_and_nothing_else():
    written = patterns(CHAPTERS["05"])
    assert is_written("05.decision.beak", written) and is_written("05.place_share", written)
    assert not is_written("05.decison.beak", written) and not is_written("05.tail", written)
    assert not is_written("01.eq1.lowets", patterns(CHAPTERS["01"]))


# Names of parts and of methods, which the package supplies and no notebook spells out.
ELSEWHERE = {"tail", "back", "breast", "wing.bar", "beak", "eye", "bird", "club", "club.full",
             "leave.one.out", "guided.grad.cam", "grad.cam.last.layer", "smoothgrad",
             "mip.in.signed", "drop.20"}  # fmt: skip


def patterns(notebook):
    """Words in a notebook's code, and its f-strings as regular expressions with a group a hole."""
    words, templates = set(ELSEWHERE), []
    for cell in json.loads(notebook.read_text())["cells"]:
        tree = ast.parse("".join(cell["source"]) if cell["cell_type"] == "code" else "")
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = [getattr(part, "value", None) for part in node.values]
                fixed = [re.escape(even(p)) if isinstance(p, str) else "" for p in parts]
                # The shortest first piece, the longest, and a measure of a share such as drop_20.
                for first in ("(.*?)", "(.*)", r"([a-z]+\.\d+)") if any(fixed) else ():
                    holes = itertools.chain([first], itertools.repeat("(.*?)"))
                    made = [piece or next(holes) for piece in fixed]
                    templates.append(re.compile("".join(made)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(even(node.value))
    return words, templates


def is_written(key, made, depth=3):
    """Whether the code writes this key, or can put it together from pieces that it writes.

    A key such as f"05.{kind}.{region}" has words in its holes, or numbers, or what another f-string
    makes: told(f"vector.{key}.t") is recorded as f"01.{key}".
    """
    words, templates = made
    if even(key) in words or (depth < 3 and re.fullmatch(r"|\d|\d{3,}", key)):
        return True
    found = [one.fullmatch(even(key)) for one in templates] if depth else []
    holes = [one.groups() for one in found if one]
    return any(all(is_written(part, made, depth - 1) for part in parts) for parts in holes)


def even(text):
    """Whatever is no letter or digit is a dot: names become keys in more ways than one."""
    return re.sub(r"[^a-z0-9]", ".", text.lower())
