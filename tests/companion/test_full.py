"""The reference holds numbers of a full run and nothing else."""

import json
import shutil
import subprocess

import pytest

from milr.companion import full, manifest
from milr.companion.profiles import Run

MACHINE = {"device": "cuda:0", "cores": 64, "versions": {"torch": "9.1"}}


@pytest.fixture
def full_run(checkout):
    """A checkout whose two chapters look executed by a full run, and have recorded results."""
    profiles = checkout.root / "notebooks" / "profiles"
    shutil.copy(profiles / "quick.yml", profiles / "full.yml")
    run = Run(profile="full", device="cpu")
    for path in (checkout.first, checkout.second):
        look_executed(path, run)
        values = {
            "05.beak": {"value": 2.0, "interval": [1.0, 3.0], "unit": "bits"},
            "05.word": {"value": "yes", "interval": None, "unit": ""},
            "05.saturated": {"value": True, "interval": None, "unit": ""},
        }
        results = run.folder / "results" / f"{path.stem}.json"
        results.parent.mkdir(exist_ok=True)
        noted = {"profile": "full", "machine": MACHINE, "values": values}
        results.write_text(json.dumps(noted))
    for words in (["init"], ["add", "notebooks"], ["commit", "-m", "all"]):
        git(checkout.root, *words)
    return run


def look_executed(notebook, run):
    target = manifest.executed(notebook, run)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(notebook, target)
    manifest.write(target, manifest.ingredients(notebook, run), 12.5)
    target.with_suffix(".valid").write_text(manifest.digest(target))


def git(root, *words):
    who = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
    subprocess.run(["git", "-C", root, *who, *words], check=True, capture_output=True)


def test_numbers_are_kept_with_the_commit_that_made_them(checkout, full_run):
    new = checkout.root / "notebooks" / "new.py"
    new.touch()
    with pytest.raises(ValueError, match="not committed: notebooks/new.py"):
        full.keep(full_run, checkout.root)
    new.unlink()
    shutil.rmtree(checkout.root / ".git")
    # The commit of a repository that the checkout happens to lie in is none of its own.
    for words in (["init"], ["commit", "--allow-empty", "-m", "around"]):
        git(checkout.root.parent, *words)
    with pytest.raises(ValueError, match="git does not tell it"):
        full.keep(full_run, checkout.root)


def test_what_a_chapter_reads_must_be_committed_too(checkout, full_run, monkeypatch):
    monkeypatch.setattr(full, "_lacks", lambda *_: "")
    monkeypatch.setattr(manifest, "reads", lambda path: ["sources.yml"] * (path == checkout.first))
    (checkout.root / "sources.yml").write_text("- one\n")
    with pytest.raises(ValueError, match="not committed: sources.yml"):
        full.keep(full_run, checkout.root)
    full.keep(full_run, checkout.root, only=["b_second"])
    for words in (["add", "sources.yml"], ["commit", "-m", "read"]):
        git(checkout.root, *words)
    full.keep(full_run, checkout.root)


def test_only_numbers_are_kept_with_what_they_come_from(checkout, full_run):
    assert full.keep(full_run, checkout.root) == checkout.root / full.REFERENCE
    kept = full.load(checkout.root)
    chapter = kept["chapters"]["a_first"]
    assert list(chapter["values"]) == ["05.beak"] and chapter["seconds"] == 12.5
    assert kept["seed"] == 0
    # Where it was computed, which need not be where it is kept.
    assert {name: kept[name] for name in MACHINE} == MACHINE
    assert full.evidence(kept).values["05.beak"].high == 3.0


def test_some_chapters_are_kept_beside_what_was_kept_of_the_others(checkout, full_run):
    full.keep(full_run, checkout.root)
    results = full_run.folder / "results"
    for name in ("a_first", "b_second"):
        text = (results / f"{name}.json").read_text().replace("2.0", "2.5")
        (results / f"{name}.json").write_text(text)
    (checkout.root / "sources.yml").write_text("- two\n")
    for words in (["add", "sources.yml"], ["commit", "-m", "another state of the code"]):
        git(checkout.root, *words)
    full.keep(full_run, checkout.root, only=["b_second"])
    chapters = full.load(checkout.root)["chapters"]
    found = {name: one["values"]["05.beak"]["value"] for name, one in chapters.items()}
    assert found == {"a_first": 2.0, "b_second": 2.5}
    assert chapters["a_first"]["commit"] != chapters["b_second"]["commit"]
    with pytest.raises(ValueError, match="no numbers of c_third are kept; those of a_first, b_s"):
        full.keep(full_run, checkout.root, only=["c_third"])


def note(full_run, name, **other):
    path = full_run.folder / "results" / f"{name}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"machine": MACHINE | other}))


def test_chapters_of_other_versions_are_not_kept_beside_others(checkout, full_run):
    full.keep(full_run, checkout.root)
    note(full_run, "b_second", versions={"torch": "9.9"})
    with pytest.raises(
        ValueError, match="made otherwise .versions: .*9.9.*keep all chapters of one"
    ):
        full.keep(full_run, checkout.root, only=["b_second"])
    with pytest.raises(ValueError, match="a_first was executed with .*b_second with .*one machine"):
        full.keep(full_run, checkout.root)
    note(full_run, "a_first", versions={"torch": "9.9"})
    full.keep(full_run, checkout.root)
    assert full.load(checkout.root)["versions"] == {"torch": "9.9"}


def test_another_profile_is_refused(checkout):
    with pytest.raises(ValueError, match="of a full run, and given is one of profile quick"):
        full.keep(checkout.run, checkout.root)


def test_a_chapter_that_changed_since_is_refused(checkout, full_run):
    checkout.notebook(checkout.second, ["print('changed')"], needs=["a_first"])
    with pytest.raises(ValueError, match="b_second: .*another version of the notebook"):
        full.keep(full_run, checkout.root)


def test_a_chapter_that_was_not_validated_is_refused(checkout, full_run):
    manifest.executed(checkout.second, full_run).with_suffix(".valid").unlink()
    with pytest.raises(ValueError, match="b_second: it was not validated"):
        full.keep(full_run, checkout.root)


def test_a_chapter_without_results_is_refused(checkout, full_run):
    (full_run.folder / "results" / "b_second.json").unlink()
    with pytest.raises(ValueError, match="b_second: it recorded nothing"):
        full.keep(full_run, checkout.root)


def test_without_a_reference_there_is_no_evidence(tmp_path):
    assert full.load(tmp_path) == {}
    assert full.evidence({}).values == {} and not full.evidence({}).chapters


def test_a_reference_of_a_smoke_run_is_refused(tmp_path):
    path = tmp_path / full.REFERENCE
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"profile": "smoke", "chapters": {}}))
    with pytest.raises(ValueError, match="made of a full run, and given is one of profile smoke"):
        full.load(tmp_path)


def test_a_damaged_reference_is_named(tmp_path):
    path = tmp_path / full.PHOTOGRAPHS
    path.parent.mkdir(parents=True)
    path.write_text('{"profile": "qui')
    with pytest.raises(ValueError, match=r"photographs\.json is damaged .*git checkout"):
        full.load(tmp_path, "cub")


def test_photographs_have_a_reference_of_their_own_and_a_quick_run_will_do(checkout, full_run):
    full.keep(full_run, checkout.root)
    birds = (checkout.root / full.REFERENCE).read_text()
    profiles = checkout.root / "notebooks" / "profiles"
    for profile in ("quick", "smoke"):
        (profiles / f"{profile}.yml").write_text((profiles / "full.yml").read_text())
    quick = Run(data="cub", profile="quick", device="cpu")
    for notebook in (checkout.first, checkout.second):
        look_executed(notebook, quick)
    shutil.copytree(full_run.folder / "results", quick.folder / "results")
    git(checkout.root, "add", "notebooks")
    git(checkout.root, "commit", "--allow-empty", "-m", "profiles")
    with pytest.raises(ValueError, match="quick or full .*smoke; .*keep PROFILE=full DATA=cub"):
        full.keep(Run(data="cub", profile="smoke", device="cpu"), checkout.root)
    with pytest.raises(ValueError, match="a full run, and given is one of profile quick"):
        full.keep(Run(profile="quick", device="cpu"), checkout.root)
    assert full.keep(quick, checkout.root) == checkout.root / full.PHOTOGRAPHS
    kept = full.load(checkout.root, "cub")
    assert (kept["data"], kept["profile"]) == ("cub", "quick")
    assert (checkout.root / full.REFERENCE).read_text() == birds
    best = Run(data="cub", profile="full", device="cpu")
    with pytest.raises(ValueError, match="b_second: .*make reproduce PROFILE=full DATA=cub"):
        full.keep(best, checkout.root, ["b_second"])
    (manifest.executed(checkout.first, quick)).with_suffix(".valid").unlink()
    with pytest.raises(ValueError, match="a_first: .*make reproduce PROFILE=quick DATA=cub"):
        full.keep(quick, checkout.root)
    path = checkout.root / full.PHOTOGRAPHS
    path.write_text(path.read_text().replace('"quick"', '"full"'))
    with pytest.raises(ValueError, match="is of a full run, which is worth more"):
        full.keep(quick, checkout.root)


def test_a_file_that_a_chapter_reads_makes_it_stale(checkout):
    content = json.loads(checkout.first.read_text())
    content["metadata"]["milr"] = {"reads": ["list.yml"]}
    checkout.first.write_text(json.dumps(content))
    target = manifest.executed(checkout.first, checkout.run)
    target.parent.mkdir(parents=True)
    shutil.copy(checkout.first, target)
    manifest.write(target, manifest.ingredients(checkout.first, checkout.run), 1.0)
    assert manifest.stale(checkout.first, checkout.run) == ""
    (checkout.root / "list.yml").write_text("- one")
    assert "a file that it reads" in manifest.stale(checkout.first, checkout.run)
