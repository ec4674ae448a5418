"""`make reproduce` runs what is out of date, in order, and publishes nothing that is stale."""

import errno
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time

import pytest

from milr.companion import manifest, reproduce, run, schedule, stage
from milr.companion.profiles import Run
from milr.files import hold
from milr.paths import CUB, GET_CUB, ROOT


@pytest.fixture
def make(checkout, capfd, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def call(*words):
        code = reproduce.main(["--root", str(checkout.root), "--profile", "quick", *words])
        said = capfd.readouterr()
        return code, said.out + said.err

    return call


def statuses(said):
    return dict(
        re.findall(
            r"^(a_first|b_second) +(done|up to date|out of date|failed|not \w+) ", said, re.M
        )
    )


# A clock of its own, since files that are written at once have the same time.
clock = itertools.count(int(time.time()) + 1000, 10)


def touch(path):
    now = next(clock)
    os.utime(path, (now, now))


def test_a_book_from_nothing_to_a_failure(checkout, make):
    code, said = make()
    assert code == 0, said
    assert statuses(said) == {"a_first": "done", "b_second": "done"}
    assert said.index("[1/2] a_first  done") < said.index("[2/2] b_second  cell")
    page = stage.page(checkout.run)
    assert str(os.path.relpath(page)) in said
    assert "10" in (page.parent / "notebooks/a_first.html").read_text()

    code, said = make()
    assert code == 0 and "Nothing has changed" in said
    assert statuses(said) == {"a_first": "up to date", "b_second": "up to date"}

    built = page.stat().st_mtime_ns
    checkout.notebook(checkout.second, ["print(steps)", "raise ValueError('no')"], ["a_first"])
    touch(checkout.second)
    code, said = make()
    assert code != 0
    assert "[2/2] b_second  FAILED in cell 4: ValueError: no" in said
    assert statuses(said) == {"a_first": "up to date", "b_second": "failed"}
    assert page.stat().st_mtime_ns == built
    code, said = make("--step", "book")
    assert code == 1 and "page b_second can't be shown: it was not executed" in said


def test_what_ran_before_a_failure_is_validated_by_the_next_run(checkout, make, monkeypatch):
    monkeypatch.setattr(stage, "build", lambda *_: None)  # it is the chapters that matter here
    monkeypatch.setenv("MAKEFLAGS", " -j1")
    checkout.notebook(checkout.second, ["raise ValueError('no')"], ["a_first"])
    code, said = make()
    assert code != 0 and "b_second  FAILED in cell 3: ValueError: no" in said
    assert statuses(said) == {"a_first": "not validated", "b_second": "failed"}

    checkout.notebook(checkout.second, ["print(1)"] * 3, ["a_first"])
    touch(checkout.second)
    code, said = make()
    assert code == 0, said
    assert (
        said.index("b_second  done") < said.index("a_first  valid") < said.index("b_second  valid")
    )
    assert statuses(said) == {"a_first": "up to date", "b_second": "done"}


def test_a_status_does_not_call_up_to_date_what_a_failure_kept_from_running(checkout, make):
    for path in (checkout.first, checkout.second):
        pretend_executed(checkout, path)
    checkout.notebook(checkout.first, ["raise ValueError('no')"])
    code, said = make()
    assert code != 0
    assert statuses(said) == {"a_first": "failed", "b_second": "out of date"}


def test_what_prints_something_else_the_second_time_is_not_validated(checkout, make):
    checkout.notebook(checkout.first, ["import os; print(os.environ['MILR_RESULTS'])"] * 3)
    code, said = make("--only", "a_first")
    assert code != 0 and "[1/1] a_first  NOT VALID: see above" in said
    assert statuses(said) == {"a_first": "not validated"}
    assert "The book was not built" in said


def test_what_became_out_of_date_meanwhile_is_not_called_wrong(checkout, make):
    # As where a data set comes while a chapter is validated: run again it prints something else.
    come = "import os, pathlib; again = 'validation' in os.environ['MILR_RESULTS']; print(again)"
    file = str(checkout.root / "c.txt")
    touch = f"pathlib.Path({file!r}).touch() if again else None"
    checkout.notebook(checkout.first, [come, touch, "print(1)", "print(2)"])
    content = json.loads(checkout.first.read_text())
    content["metadata"]["milr"]["reads"] = ["c.txt"]
    checkout.first.write_text(json.dumps(content))
    code, said = make("--only", "a_first")
    assert code != 0 and "another version of a file that it reads; run it again" in said


def test_only_what_changed_and_its_dependants_run_again(checkout, make):
    quick = checkout.root / "notebooks/profiles/quick.yml"
    todo = executed_anew(checkout)
    assert todo() == {"a_first", "b_second"}
    for path in (checkout.first, checkout.second):
        pretend_executed(checkout, path)
    assert todo() == set()
    touch(checkout.second)
    assert todo() == {"b_second"}
    touch(checkout.first)
    assert todo() == {"a_first", "b_second"}
    for path in (checkout.first, checkout.second):
        pretend_executed(checkout, path)
    assert todo() == set()
    quick.write_text(quick.read_text().replace("common: {steps: 5}", "b_second: {steps: 6}"))
    assert todo() == {"a_first", "b_second"}
    quick.write_text("a_first: {rate: 1}\ncommon: {steps: 5}\nb_second: {seed: 0}\n")
    assert todo() == set()
    quick.write_text("a_first: {rate: 1}\ncommon: {steps: 5}\nb_second: {limit: 2}\n")
    assert todo() == {"b_second"}


def pretend_executed(checkout, notebook, run=None):
    run = run or checkout.run
    path = manifest.executed(notebook, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(notebook.read_text())
    manifest.write(path, manifest.ingredients(notebook, run), 1)
    path.with_suffix(".valid").write_text(manifest.digest(path))
    for file in (path, path.with_suffix(".valid")):
        touch(file)


def executed_anew(checkout):
    def todo():
        chosen = reproduce.choose(checkout.root, [])
        found = schedule.due(chosen, checkout.run)
        return {task.notebook.stem for task in found if task.step == "run"}

    return todo


def test_the_book_is_of_those_that_were_run(checkout):
    chosen = [checkout.first, checkout.second]
    with pytest.raises(ValueError, match="no notebook was run in .*; run `make reproduce`"):
        reproduce.were_run(chosen, checkout.run)
    pretend_executed(checkout, checkout.first)
    assert reproduce.were_run(chosen, checkout.run) == [checkout.first]


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda executed: executed.unlink(), "it was not executed"),
        (lambda executed: executed.with_suffix(".json").unlink(), "it was not executed"),
        (lambda executed: executed.write_text("{}"), "the executed notebook was changed"),
        (lambda executed: executed.with_suffix(".valid").unlink(), "it was not validated"),
    ],
)
def test_a_page_without_its_proofs_is_refused(checkout, spoil, named):
    for path in (checkout.first, checkout.second):
        pretend_executed(checkout, path)
    stage.refuse_stale([checkout.first, checkout.second], checkout.run)
    spoil(checkout.executed(checkout.second))
    with pytest.raises(stage.Refused, match=f"page b_second can't be shown: {named}"):
        stage.refuse_stale([checkout.first, checkout.second], checkout.run)


def test_a_page_is_stale_once_its_notebook_or_one_that_it_needs_was_changed(checkout):
    for path in (checkout.first, checkout.second):
        pretend_executed(checkout, path)
    checkout.notebook(checkout.first, ["print(steps)"])
    assert "another version of the notebook" in manifest.stale(checkout.first, checkout.run)
    assert manifest.stale(checkout.second, checkout.run) == ""
    pretend_executed(checkout, checkout.first)
    assert "a notebook that it uses" in manifest.stale(checkout.second, checkout.run)


def test_a_page_is_stale_once_its_figures_or_results_are_gone(checkout):
    imports = "import matplotlib.pyplot as plt; from milr.companion import figures, results"
    draw = "figures.save(plt.figure(), 'one', 'There is nothing to be seen.', {'x': [1]})"
    record = "results.record('a.one', 1); print(1)"
    checkout.notebook(checkout.first, [imports, draw, record, "print(2)", "print(3)"])
    assert run.main([str(checkout.first), *checkout.run.arguments]) == 0
    assert manifest.stale(checkout.first, checkout.run) == ""
    kept = checkout.run.folder.with_name("kept")
    shutil.copytree(checkout.run.folder, kept)
    for gone in ("figures", "results"):
        shutil.rmtree(checkout.run.folder / gone)
        assert f"its {gone} are gone" in manifest.stale(checkout.first, checkout.run)
        assert "a_first" in executed_anew(checkout)()
        shutil.copytree(kept / gone, checkout.run.folder / gone)
        assert manifest.stale(checkout.first, checkout.run) == ""
    # As a disk may leave it on which the power failed before all was written.
    (checkout.run.folder / "results" / "a_first.json").write_text("")
    assert "its results are gone, or are not" in manifest.stale(checkout.first, checkout.run)


def test_a_book_with_two_figures_in_one_cell_is_refused(checkout, make):
    content = json.loads(checkout.first.read_text())
    shown = [{"milr": {"name": name}, "width": 400} for name in ("one", "two")]
    content["cells"][1]["outputs"] = [
        {"output_type": "display_data", "data": {}, "metadata": {"image/png": picture}}
        for picture in shown
    ]
    checkout.first.write_text(json.dumps(content))
    (checkout.run.folder / "figures").mkdir(parents=True)
    for file in ("one.png", "one.npz", "two.png", "two.npz"):
        (checkout.run.folder / "figures" / file).touch()
    for path in (checkout.first, checkout.second):
        pretend_executed(checkout, path)
    code, said = make("--step", "book")
    assert code == 1
    assert "page a_first can't be shown: cell 2 shows one, two: give each figure a cell of" in said


def test_stored_reference_outputs_do_not_make_a_page_stale(checkout):
    pretend_executed(checkout, checkout.first)
    content = json.loads(checkout.first.read_text())
    content["cells"][2]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "6\n"}]
    checkout.first.write_text(json.dumps(content))
    assert manifest.stale(checkout.first, checkout.run) == ""


def test_changed_code_makes_all_pages_stale(checkout, monkeypatch):
    pretend_executed(checkout, checkout.first)
    monkeypatch.setattr(manifest, "sources_digest", lambda: "other")
    assert "another version of the code" in manifest.stale(checkout.first, checkout.run)


@pytest.mark.parametrize("name", ["maps.py", "companion/milr.mplstyle"])
def test_code_and_the_style_of_figures_count_and_what_runs_notebooks_does_not(
    tmp_path, monkeypatch, name
):
    shutil.copytree(ROOT / "milr", tmp_path / "milr", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(manifest, "ROOT", tmp_path)
    before = manifest.sources_digest()
    (tmp_path / "milr" / "companion" / "serve.py").write_text("")
    assert manifest.sources_digest() == before
    (tmp_path / "milr" / name).write_text("")
    assert manifest.sources_digest() != before


def test_what_an_open_editor_keeps_beside_the_code_does_not_count(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "ROOT", tmp_path)
    (tmp_path / "milr").mkdir()
    (tmp_path / "milr" / "maps.py").write_text("x = 1")
    before = manifest.sources_digest()
    (tmp_path / "milr" / ".#maps.py").symlink_to("somebody@somewhere.1")
    (tmp_path / "milr" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "milr" / ".ipynb_checkpoints" / "maps-checkpoint.py").write_text("x = 0")
    assert manifest.sources_digest() == before


def test_another_python_makes_all_pages_stale(checkout, monkeypatch):
    pretend_executed(checkout, checkout.first)
    monkeypatch.setattr(sys, "version_info", (3, 99, 0))
    assert "another version of the Python" in manifest.stale(checkout.first, checkout.run)


def test_data_put_there_later_make_the_chapters_stale_that_use_them(checkout, monkeypatch):
    data = checkout.root / "data"
    monkeypatch.setenv("MILR_DATA", str(data))
    (data / "things").mkdir(parents=True)
    content = json.loads(checkout.first.read_text())
    content["metadata"]["milr"]["data"] = ["things"]
    checkout.first.write_text(json.dumps(content))

    def why(notebook):
        manifest.look_again()
        return manifest.stale(notebook, checkout.run)

    for path in (checkout.first, checkout.second):
        pretend_executed(checkout, path)
    (data / "things" / "half.gz.part").write_text("not yet")
    assert why(checkout.first) == ""
    (data / "things" / "whole.gz").write_text("a thing")
    assert why(checkout.first) == "it was executed with another version of the data"
    assert why(checkout.second) == ""


def test_what_a_chapter_fetches_itself_does_not_make_it_stale(checkout, make, monkeypatch):
    monkeypatch.setattr(stage, "build", lambda *_: None)  # it is the chapters that matter here
    monkeypatch.setenv("MILR_DATA", str(checkout.root / "data"))
    fetch = "import os; os.makedirs(os.environ['MILR_DATA'] + '/things', exist_ok=True)"
    write = "open(os.environ['MILR_DATA'] + '/things/a', 'w').write('a')"
    checkout.notebook(checkout.first, [f"{fetch}; {write}; print('done')", *3 * ["print(1)"]])
    content = json.loads(checkout.first.read_text())
    content["metadata"]["milr"]["fetches"] = ["things"]
    checkout.first.write_text(json.dumps(content))
    for _ in range(2):
        code, said = make("--only", "a_first")
        assert code == 0, said
        assert manifest.stale(checkout.first, checkout.run) == ""
        shutil.rmtree(checkout.root / "data")
        manifest.look_again()  # as a new process does


def test_data_that_come_while_a_chapter_runs_are_none_that_it_was_made_from(checkout):
    (checkout.root / "data").mkdir()
    content = json.loads(checkout.first.read_text())
    content["metadata"]["milr"]["data"] = ["things"]
    content["cells"][2]["source"] = "import pathlib; pathlib.Path('../data/things').mkdir()"
    content["cells"][3]["source"] = "pathlib.Path('../data/things/a').write_text('a')"
    checkout.first.write_text(json.dumps(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MILR_DATA", str(checkout.root / "data"))
        manifest.look_again()
        assert run.main([str(checkout.first), "--profile", "quick"]) == 0
        assert "the data" in manifest.stale(checkout.first, checkout.run)


def test_what_is_changed_while_the_book_is_built_is_built_by_the_next_run(checkout, monkeypatch):
    for path in (checkout.first, checkout.second):
        pretend_executed(checkout, path)

    def edit(*_, **__):
        (checkout.root / "book" / "welcome.md").write_text("# Good day\n")
        built = checkout.run.folder / "book-new" / "_build" / "html"
        built.mkdir(parents=True)
        (built / "index.html").write_text("Welcome")
        return subprocess.CompletedProcess([], 0)

    monkeypatch.setattr(stage.subprocess, "run", edit)
    stage.build(checkout.root, checkout.run, [checkout.first])
    assert not stage.is_current(checkout.root, checkout.run)
    stage.build(checkout.root, checkout.run, [checkout.first])
    assert stage.is_current(checkout.root, checkout.run)


def test_the_book_counts_the_text_of_chapters_that_were_not_run(checkout):
    pretend_executed(checkout, checkout.first)
    before = stage.fingerprint(checkout.root, checkout.run)
    checkout.notebook(checkout.second, ["print('other')"], ["a_first"])
    assert stage.fingerprint(checkout.root, checkout.run) != before


def test_chapters_that_were_not_run_say_so(checkout):
    pretend_executed(checkout, checkout.first)
    source = checkout.run.folder / "book-src"
    assert stage.stage(checkout.root, checkout.run, source) == ["b_second"]
    assert "Not run" in (source / "notebooks/b_second.ipynb").read_text()
    assert "Not run" not in (source / "notebooks/a_first.ipynb").read_text()


def test_what_was_said_to_the_person_who_watched_is_not_on_the_page(checkout):
    pretend_executed(checkout, checkout.first)
    path = checkout.executed(checkout.first)
    content = json.loads(path.read_text())
    content["cells"][2]["outputs"] = [
        {"output_type": "stream", "name": name, "text": f"to {name}"}
        for name in ("stdout", "stderr")
    ]
    path.write_text(json.dumps(content))
    manifest.write(path, manifest.ingredients(checkout.first, checkout.run), 1)
    path.with_suffix(".valid").write_text(manifest.digest(path))
    stage.stage(checkout.root, checkout.run, checkout.run.folder / "book-src")
    page = (checkout.run.folder / "book-src/notebooks/a_first.ipynb").read_text()
    assert "to stdout" in page and "to stderr" not in page


def test_what_recorded_a_result_can_be_linked_to(checkout):
    output = {"output_type": "display_data", "data": {}, "metadata": {"scrapbook": {"name": "a"}}}
    quiet = {"cell_type": "code", "id": "e1", "source": "1", "outputs": []}
    content = {"cells": [quiet, {**quiet, "id": "e2", "outputs": [output]}]}
    stage.anchor_results(content)
    assert [cell["id"] for cell in content["cells"]] == ["e1", "cell-e2", "e2"]
    assert content["cells"][1]["source"] == '<div id="cell-e2"></div>'


@pytest.mark.parametrize("words", [(), ("--only", "a_first"), ("--step", "validate")])
def test_a_notebook_that_can_not_be_read_is_named_before_anything_runs(checkout, make, words):
    pretend_executed(checkout, checkout.first)
    checkout.second.write_text(f"<<<<<<< HEAD\n{checkout.second.read_text()}")
    code, said = make(*words)
    assert code == 2 and "refused: b_second.ipynb is no notebook that can be read (Ex" in said
    assert manifest.stale(checkout.first, checkout.run) == ""


def test_only_what_the_table_of_contents_names_is_a_chapter(checkout):
    contents = checkout.root / "_toc.yml"
    contents.write_text(f"{contents.read_text()}# {{file: notebooks/c_later}}\n")
    checkout.notebook(checkout.second, ["print(1)"], needs=["*"])
    for name in ("Untitled", "a_first-Copy1", "c_later"):
        shutil.copy(checkout.first, checkout.first.with_stem(name))
    checkout.first.with_stem(".#b_second").symlink_to("nobody@nowhere.1")
    chapters = [checkout.first, checkout.second]
    assert manifest.notebooks(checkout.root) == reproduce.choose(checkout.root, []) == chapters
    assert manifest.needs(checkout.second) == ["a_first"]
    with pytest.raises(ValueError, match="no notebook 'Untitled' .*; there are a_first, b_second"):
        reproduce.choose(checkout.root, ["Untitled"])


def test_a_chapter_below_another_is_one_too(checkout):
    below = (
        "format: jb-book\nroot: book/welcome\nparts:\n- chapters:\n  - file: notebooks/a_first\n"
    )
    below += "    sections:\n    - file: notebooks/b_second\n    - url: https://example.org\n"
    (checkout.root / "_toc.yml").write_text(below)
    assert manifest.notebooks(checkout.root) == [checkout.first, checkout.second]


def test_needed_notebooks_come_along_and_first(checkout):
    chosen = reproduce.choose(checkout.root, ["b_second"])
    assert [path.stem for path in chosen] == ["a_first", "b_second"]


def test_notebooks_that_need_each_other_are_refused(checkout, make):
    checkout.notebook(checkout.first, ["print(1)"], needs=["b_second"])
    code, said = make()
    assert code == 2 and "refused: notebooks need each other: " in said


@pytest.mark.parametrize(
    ("words", "named"),
    [(["--only", "c_third"], "no notebook 'c_third' in _toc.yml; there are a_first"),
     (["--seed", "x"], "'x' is no seed; give a whole number from 0 to 2147483647"),
     (["--seed", "-1"], "'-1' is no seed"), (["--seed", str(2**31)], "'2147483648' is no seed"),
     (["--data", "cats"], "birds")],
)  # fmt: skip
def test_unknown_words_are_refused(make, capfd, words, named):
    try:
        code, said = make(*words)
    except SystemExit as stopped:
        code, said = stopped.code, capfd.readouterr().err
    assert code == 2 and named in said


def test_a_device_that_is_not_there_is_refused_before_a_page_is_out_of_date(
    checkout, make, monkeypatch
):
    monkeypatch.setattr("milr.distributed.devices", lambda: ("cpu",))
    for path in (checkout.first, checkout.second):
        pretend_executed(checkout, path)
    code, said = make("--device", "cuda")
    assert code == 2
    assert "refused: device is 'cuda'; this machine offers auto, cpu" in said
    assert not any(manifest.stale(n, checkout.run) for n in (checkout.first, checkout.second))


def test_a_disk_that_is_full_when_the_book_is_built_is_said(checkout, make, monkeypatch):
    def build(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(reproduce.schedule, "carry_out", lambda *_: True)
    monkeypatch.setattr(reproduce.stage, "build", build)
    code, said = make()
    assert code == 1 and "No space left on device. What has run is kept" in said


def test_photographs_that_are_not_there_are_refused_before_a_page_is_out_of_date(
    checkout, make, monkeypatch
):
    monkeypatch.setenv("MILR_DATA", str(checkout.root / "data"))
    images = checkout.root / "data" / CUB / "images.txt"
    cub = Run(profile="quick", data="cub")
    for path in (checkout.first, checkout.second):
        pretend_executed(checkout, path, cub)
    code, said = make("--data", "cub")
    assert code == 2 and f"refused: {images} is missing. {GET_CUB}\n" in said
    for path in (checkout.first, checkout.second):
        assert not manifest.stale(path, cub)
    reproduce.refuse_absent(checkout.run)
    images.parent.mkdir(parents=True)
    images.touch()
    reproduce.refuse_absent(cub)


def test_a_build_folder_that_can_not_be_written_is_said(checkout, make, monkeypatch):
    (checkout.root / "a file").touch()
    monkeypatch.setenv("MILR_BUILD", str(checkout.root / "a file"))
    code, said = make()
    assert code == 2 and "nothing can be written there; MILR_BUILD names another folder" in said


def test_a_second_run_in_the_same_folder_waits(checkout, make):
    for path in (checkout.first, checkout.second):
        pretend_executed(checkout, path)
    with hold(checkout.run.folder / ".lock", ""):
        words = [sys.executable, "-m", "milr.companion.reproduce", "--root", str(checkout.root),
                 "--profile", "quick", "--step", "book"]  # fmt: skip
        other = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        first = other.stderr.readline()
        assert other.poll() is None
        checkout.executed(checkout.first).with_suffix(".valid").unlink()
    said = other.communicate(timeout=60)[1]
    assert "another run works in" in first
    assert "it was not validated" in said


def test_each_run_has_a_folder_of_its_own():
    runs = [Run(), Run(data="cub"), Run(seed=1), Run(profile="smoke")]
    assert len({run.folder for run in runs}) == 4
