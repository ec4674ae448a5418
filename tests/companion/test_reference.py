"""What of a run's outputs is stored in the notebooks."""

import errno
import json
import os
import runpy
import sys

import pytest
from nbformat.v4 import new_output

from milr.companion import reference, run
from milr.companion.reference import strip


@pytest.fixture
def printing(checkout, monkeypatch):
    """The first notebook, of which a run prints something that is not stored in it yet."""

    def execute(notebook, target, *_):
        content = json.loads(notebook.read_text())
        code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
        for number, cell in enumerate(code, start=1):
            cell["execution_count"] = number
            cell["outputs"] = [new_output("stream", text=f"{number}\n")]
        target.write_text(json.dumps(content))

    monkeypatch.setattr(reference, "execute", execute)
    return checkout.first


def test_a_disk_that_is_full_leaves_the_notebook_as_it_was(printing, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = printing.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="No space left"):
            reference.refresh(printing)
    assert printing.read_bytes() == before
    assert reference.refresh(printing) and printing.read_bytes() != before


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
def test_a_disk_that_is_full_and_an_interruption_are_each_said_in_a_sentence(
    checkout, monkeypatch, capsys
):
    def stop(error):
        def execute(*_):
            raise error

        monkeypatch.setattr(run, "execute", execute)
        with pytest.raises(SystemExit) as stopped:
            runpy.run_module("milr.companion.reference", run_name="__main__")
        return stopped.value.code, capsys.readouterr().err

    monkeypatch.setattr(sys, "argv", ["reference", "01_bounds"])
    full = OSError(errno.ENOSPC, "No space left on device")
    assert stop(full) == (1, "01_bounds: [Errno 28] No space left on device\n")
    assert stop(KeyboardInterrupt()) == (130, "Interrupted; the notebook in hand is as it was.\n")


def test_outputs_that_are_refreshed_do_not_make_a_notebook_newer(printing):
    os.utime(printing, ns=(5, 1_234_567_891))
    assert reference.refresh(printing)
    assert printing.stat().st_mtime_ns == 1_234_567_891


def test_what_is_printed_in_a_row_is_one_output_wherever_it_broke():
    printed = [new_output("stream", text=text) for text in ("a\n", "b", "\n")]
    value = new_output("execute_result", {"text/plain": "3", "image/png": "x"})
    noise = new_output("stream", name="stderr", text="50 %\n")
    found = strip([*printed[:2], noise, printed[2], value, new_output("stream", text="c\n")])
    assert [one.output_type for one in found] == ["stream", "execute_result", "stream"]
    assert [found[0].text, found[2].text] == ["a\nb\n", "c\n"]
    assert found[1].data == {"text/plain": "3"}
