"""The comparison of outputs is no empty ceremony: what is wrong turns it red."""

import json
import subprocess

import nbformat
import pytest

from milr.companion import compare, reference, validate
from milr.companion.run import strip_ansi
from milr.paths import ROOT

CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def kept():
    return []


@pytest.fixture
def referenced(checkout, kept):
    if not kept:  # a kernel takes seconds, and makes the same of the same notebook each time
        reference.refresh(checkout.first)
        kept.append(checkout.first.read_bytes())
    checkout.first.write_bytes(kept[0])
    return checkout.first


def change(path, edit):
    content = json.loads(path.read_text())
    edit([cell for cell in content["cells"] if cell["cell_type"] == "code"])
    path.write_text(json.dumps(content))
    return content


def test_a_fresh_reference_has_text_and_no_problems(referenced):
    content = json.loads(referenced.read_text())
    assert validate.problems(content) == []
    assert content["cells"][2]["outputs"][0]["text"] == ["6\n"]
    assert "papermill" not in json.dumps(content["cells"]).replace("papermill.record", "")
    assert len(content["cells"]) == 5, "no injected parameters"


def test_refreshing_again_changes_nothing(referenced):
    before = referenced.read_bytes()
    assert reference.refresh(referenced) is False
    assert referenced.read_bytes() == before


def test_only_text_is_stored(checkout):
    checkout.notebook(checkout.first, [
        "import sys; print('told', file=sys.stderr)",
        "from IPython.display import HTML; HTML('<b>7</b>')",
        "from IPython.display import display; display({'image/png': 'aGk='}, raw=True)",
        "print(1)", "print(2)", "2 + 1",
    ])  # fmt: skip
    reference.refresh(checkout.first)
    text = checkout.first.read_text()
    assert "told" not in text.split('"outputs"', 3)[3].split("source")[0]
    assert "text/html" not in text and "image/png" not in text.replace("'image/png'", "")
    assert validate.nbval(checkout.first, {}).returncode == 0


def test_agreeing_outputs_are_green_and_a_corrupted_number_is_red(referenced):
    assert validate.nbval(referenced, {}).returncode == 0
    change(referenced, lambda cells: cells[1]["outputs"][0].update(text="7\n"))
    outcome = validate.nbval(referenced, {})
    assert outcome.returncode == 1
    assert "Cell outputs differ" in strip_ansi(outcome.stdout)


def test_a_folder_may_have_a_bracket_in_its_name(referenced, tmp_path):
    copy = tmp_path / "milr [copy]" / referenced.name
    copy.parent.mkdir()
    copy.write_bytes(referenced.read_bytes())
    outcome = validate.nbval(copy, {})
    assert outcome.returncode == 0, outcome.stdout


def test_what_a_person_has_set_up_for_other_tests_does_not_count(referenced, monkeypatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", "-n 2")
    monkeypatch.setenv("PYTEST_PLUGINS", "there_is_none")
    outcome = validate.nbval(referenced, {})
    assert outcome.returncode == 0, outcome.stdout


def test_a_notebook_is_told_once_what_is_not_compared():
    class Node:
        parent = None

    book, other = Node(), Node()
    book.skip_compare = ("metadata",)
    cells = [Node() for _ in range(3)]
    for cell in cells:
        cell.parent = book
    compare.pytest_collection_modifyitems([*cells, other])
    assert book.skip_compare == ("metadata", *compare.SKIPPED)


@pytest.mark.parametrize(("deaths", "wrong"), [(1, False), (9, True)])
def test_a_kernel_that_does_not_start_is_started_again(checkout, monkeypatch, deaths, wrong):
    monkeypatch.setattr(validate, "problems", lambda notebook: [])
    path = checkout.executed(checkout.first)
    path.parent.mkdir(parents=True)
    path.write_text(checkout.first.read_text())
    asked = []

    def sometimes(_, environment):
        # What was not to be had the first time would be another outcome, were it fetched now.
        assert environment["MILR_OFFLINE"] == "1"
        asked.append(1)
        dead = len(asked) <= deaths
        said = "RuntimeError: Kernel died before replying to kernel_info" if dead else ""
        return subprocess.CompletedProcess([], int(dead), said)

    monkeypatch.setattr(validate, "nbval", sometimes)
    assert bool(validate.validate(checkout.first, checkout.run)) == wrong
    assert len(asked) == min(deaths + 1, validate.STARTS)


def test_what_takes_the_place_of_a_copy_meanwhile_is_not_valid(checkout, monkeypatch):
    monkeypatch.setattr(validate, "problems", lambda notebook: [])
    path = checkout.executed(checkout.first)
    path.parent.mkdir(parents=True)
    path.write_text(checkout.first.read_text())

    def compare(*_):
        path.write_text(path.read_text() + " ")
        return subprocess.CompletedProcess([], 0, "")

    monkeypatch.setattr(validate, "nbval", compare)
    assert validate.validate(checkout.first, checkout.run) == []
    assert not validate.is_valid(path)


def test_a_copy_that_was_taken_away_is_said(checkout, capsys):
    assert validate.main([str(checkout.first), *checkout.run.arguments]) == 1
    said = capsys.readouterr().err
    assert f"{checkout.executed(checkout.first)} is gone (make clean" in said
    assert "a_first  NOT VALID: see above" in said


def test_a_cell_without_an_execution_count_is_a_problem(referenced):
    content = change(referenced, lambda cells: cells[1].update(execution_count=None))
    assert any("cell 2 has no execution count" in text for text in validate.problems(content))


def test_cells_executed_out_of_order_are_a_problem(referenced):
    content = change(referenced, lambda cells: cells[1].update(execution_count=9))
    assert validate.problems(content) == ["code cell 2 was executed as number 9"]


def test_a_notebook_with_too_few_compared_cells_is_a_problem(referenced):
    content = change(referenced, lambda cells: cells[1].update(outputs=[]))
    assert "only 2 of 4 code cells print" in validate.problems(content)[0]
    figure = {
        "output_type": "display_data",
        "metadata": {},
        "data": {"text/plain": "<Image object>"},
    }
    content = change(referenced, lambda cells: cells[1].update(outputs=[figure]))
    assert "only 2 of 4" in validate.problems(content)[0]
    tagged = {"tags": ["nbval-ignore-output"]}
    content = change(referenced, lambda cells: cells[2].update(metadata=tagged))
    assert "only 1 of 4" in validate.problems(content)[0]


def test_an_error_among_the_outputs_is_a_problem(referenced):
    error = {"output_type": "error", "ename": "E", "evalue": "", "traceback": []}
    content = change(referenced, lambda cells: cells[1]["outputs"].append(error))
    assert validate.problems(content) == ["code cell 2 ended in an error"]


def test_a_result_that_is_recorded_twice_is_a_problem(referenced):
    def glued(name):
        return {
            "output_type": "display_data", "data": {}, "metadata": {"scrapbook": {"name": name}}
        }  # fmt: skip

    def record(cells):
        cells[1]["outputs"] += [glued("x.a"), glued("x.b")]
        cells[2]["outputs"] += [glued("x.b")]

    content = change(referenced, record)
    assert validate.problems(content) == ["result x.b is recorded 2 times; a page has room for one"]


def test_too_weak_a_notebook_gets_no_reference(checkout):
    checkout.notebook(checkout.first, ["x = 1"])
    before = checkout.first.read_bytes()
    with pytest.raises(ValueError, match="only 0 of 2 code cells"):
        reference.refresh(checkout.first)
    assert checkout.first.read_bytes() == before


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_chapter_has_reference_outputs_that_are_compared(path):
    assert validate.problems(json.loads(path.read_text())) == []


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_no_chapter_stores_pictures_or_what_the_runner_adds(path):
    stored = nbformat.read(path, as_version=4)
    kinds = {
        kind
        for cell in stored.cells
        for output in cell.get("outputs", ())
        for kind in output.get("data", ())
    }
    assert kinds <= {"text/plain"}
    assert not any("injected-parameters" in cell.metadata.get("tags", ()) for cell in stored.cells)
