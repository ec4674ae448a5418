"""The ledger is complete, and asks for what the chapters record."""

import ast
import itertools
import json
import re

import pytest

from milr.companion import claims, full, manifest
from milr.paths import ROOT

LEDGER = claims.load()
# All places of a source that claim or show something. The sources are no part of the checkout, so
# this list is typed; an entry may name no other place, which keeps a slip of the pen out of either.
NUMBERED = {
    "paper": {"figure": 6, "equation": 10},
    "patent": {"figure": 6, "item": 6, "section": 3},
    "mip-in": {"figure": 5},
    "nif": {"equation": 4},
}
NAMED = {
    "paper": "abstract, section 1, section 2, section 3.1, section 3.2, section 3.3, section 3.4, "
    "section 3.4.1, section 3.4.2, section 3.4.3, section 4, section 4.1, section 4.1.1, "
    "section 4.1.2, section 4.1.3, section 4.1.4, section 5",
    "patent": "background, contents",
    "mip-in": "introduction, problem formulation, method, experiments, conclusion",
    "nif": "overview, information measures, experimentation, table of K-S tests, "
    "multilayer networks, conclusion",
}
PLACES = {
    source: {f"{kind} {n}" for kind, most in kinds.items() for n in range(1, most + 1)}
    | set(NAMED[source].split(", "))
    for source, kinds in NUMBERED.items()
}
CHAPTERS = {path.name[:2]: path for path in manifest.notebooks(ROOT)}
KEYS = sorted({key for claim in LEDGER for rule in claim.rules for key in rule.keys})


@pytest.mark.parametrize("source", PLACES)
def test_every_place_of_a_source_has_an_entry_and_no_entry_names_another(source):
    named = {place for claim in LEDGER if claim.source == source for place in claim.at}
    assert named == PLACES[source]


def test_the_ledger_is_long_enough_and_its_names_tell_the_source():
    assert len(LEDGER) >= 100
    assert [c.id for c in LEDGER if not c.id.startswith(f"{c.source}-")] == []


def test_what_the_sources_say_beside_their_formulas_has_entries():
    said = {claim.id: f"{claim.says} {claim.asks}" for claim in LEDGER}
    assert "dimension" in said["patent-item1-dimension"]
    assert "probabilities" in said["patent-item1-probabilistic"]
    assert "global representation" in said["patent-item4-global"]
    assert "expensive" in said["patent-few-layers"]
    assert "as large as can be" in said["mip-in-reformulation"]
    assert "upper layers" in said["mip-in-upper-layers"]


def test_two_networks_of_one_architecture_settle_no_claim_about_all_kinds():
    claim = next(claim for claim in LEDGER if claim.id == "patent-any-network")
    assert claim.untestable and not claim.rules


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
    assert manifest.reads(scorecard) == ["data/claims.yml", full.REFERENCE, full.PHOTOGRAPHS]


def test_the_search_for_keys_finds_what_is_recorded_and_nothing_else():
    written = patterns(CHAPTERS["05"])
    assert is_written("05.decision.beak", written) and is_written("05.place_share", written)
    assert not is_written("05.decison.beak", written) and not is_written("05.tail", written)
    assert not is_written("01.eq1.lowets", patterns(CHAPTERS["01"]))
    assert not is_written("12.deep.modularity_random", patterns(CHAPTERS["12"]))


# Names of parts and of methods, which the package supplies and no notebook spells out.
ELSEWHERE = {"tail", "back", "breast", "wing.bar", "head.marking", "beak", "eye", "bird",
             "club", "club.full", "leave.one.out", "guided.grad.cam", "grad.cam.last.layer",
             "smoothgrad", "mip.in.signed", "drop.20", "keep.10", "jsd", "occlusion",
             "per.sample.bottleneck", "readout.bottleneck", "nif.as.printed", "at.random", "random",
             "centred.gaussian", "1000.with.a.two.layer.critic", "10000.in.folds"}  # fmt: skip


def patterns(notebook):
    """Words in a notebook's code, and its f-strings as regular expressions with a group a hole."""
    words, templates = set(ELSEWHERE), []
    for cell in json.loads(notebook.read_text())["cells"]:
        tree = ast.parse("".join(cell["source"]) if cell["cell_type"] == "code" else "")
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = [getattr(part, "value", None) for part in node.values]
                fixed = [re.escape(even(p)) if isinstance(p, str) else "" for p in parts]
                # The shortest first piece, the longest, and measures: drop_20, lift_clamped.
                telling = any(re.search("[a-z0-9]", piece) for piece in fixed)
                for first in (
                    ("(.*?)", "(.*)", r"([a-z]+\.(?:\d+|null|clamped))") if telling else ()
                ):
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
