"""An executed notebook appears whole or not at all, and a failure is named."""

import os
import signal
import subprocess
import sys
import time

import pytest

from milr.companion import manifest, run
from milr.paths import ROOT


def start(checkout):
    command = [sys.executable, "-m", "milr.companion.run", checkout.first, "--profile", "quick"]
    return subprocess.Popen(
        command, text=True, stderr=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_a_run_gets_its_parameters_and_says_how_far_it_is(checkout, capfd, monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", str(checkout.root / "nowhere"))
    cells = ["import os, sys; print(sys.executable)", "print(steps, rate, seed, profile)",
             "print(os.environ['MILR_NOTEBOOK'], os.environ['MILR_RESULTS'])",
             "print(os.getcwd())"]  # fmt: skip
    checkout.notebook(checkout.first, cells)
    words = ["--profile", "quick", "--seed", "4", "--position", "[1/2]"]
    assert run.main([str(checkout.first), *words]) == 0
    folder = checkout.run.folder.with_name("birds-quick-4")
    assert checkout.outputs(folder / "notebooks" / "a_first.ipynb").splitlines() == [
        sys.executable, "5 1 4 quick", f"a_first {folder}", str(checkout.first.parent),
    ]  # fmt: skip
    said = capfd.readouterr().err
    assert "[1/2] a_first  cell 3/6  0:" in said and "cell 6/6" in said
    assert "[1/2] a_first  done" in said


def test_what_a_person_has_set_up_for_other_work_does_not_count(checkout, monkeypatch):
    startup = checkout.root / "ipython/profile_default/startup/mine.py"
    startup.parent.mkdir(parents=True)
    startup.write_text("import builtins; builtins.mine = True")
    (checkout.root / "matplotlibrc").write_text("font.size: 40")
    monkeypatch.setenv("IPYTHONDIR", str(checkout.root / "ipython"))
    monkeypatch.setenv("MATPLOTLIBRC", str(checkout.root / "matplotlibrc"))
    asked = ["import builtins, matplotlib", "print(hasattr(builtins, 'mine'))",
             "print(matplotlib.rcParams['font.size'])"]  # fmt: skip
    checkout.notebook(checkout.first, asked)
    assert run.main([str(checkout.first), "--profile", "quick"]) == 0
    assert checkout.outputs(checkout.executed(checkout.first)).split() == ["False", "10.0"]


def test_another_kernel_called_python3_is_not_taken(checkout, monkeypatch):
    kernel = checkout.root / "jupyter/kernels/python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text('{"argv": ["false"], "display_name": "other"}')
    monkeypatch.setenv("JUPYTER_PATH", str(checkout.root / "jupyter"))
    assert run.main([str(checkout.first), "--profile", "quick"]) == 0


@pytest.mark.parametrize(
    ("setting", "named"), [("stpes: 5", "no parameter 'stpes'"), ("steps: five", "of type int")]
)
def test_unknown_and_ill_typed_parameters_are_refused_before_anything_runs(
    checkout, capfd, setting, named
):
    (checkout.root / "notebooks/profiles/quick.yml").write_text(f"a_first: {{{setting}}}\n")
    assert run.main([str(checkout.first), "--profile", "quick"]) == 2
    assert named in capfd.readouterr().err
    assert not checkout.executed(checkout.first).exists()


def test_a_failing_cell_is_named_kept_aside_and_not_published(checkout, capfd):
    assert run.main([str(checkout.first), "--profile", "quick"]) == 0
    checkout.notebook(checkout.first, ["print(1)", "x = {}\nx['gone']", "print(2)"])
    assert run.main([str(checkout.first), "--profile", "quick"]) == 1
    said = capfd.readouterr().err
    assert "a_first  FAILED in cell 4: KeyError: 'gone'" in said
    assert "x['gone']" in said
    assert not checkout.executed(checkout.first).exists()
    aside = checkout.run.folder / "failed" / "a_first.ipynb"
    assert "KeyError" in aside.read_text() and checkout.outputs(aside) == "1\n"
    assert manifest.stale(checkout.first, checkout.run) == "it was not executed"


def test_a_kernel_that_dies_is_a_failure(checkout, capfd):
    checkout.notebook(checkout.first, ["import os; os._exit(1)"])
    assert run.main([str(checkout.first), "--profile", "quick"]) == 1
    assert "a_first  FAILED in cell 3" in capfd.readouterr().err
    assert not checkout.executed(checkout.first).exists()


@pytest.mark.parametrize(("deaths", "code"), [(1, 0), (9, 1)])
def test_a_kernel_that_does_not_start_is_started_again(checkout, capfd, monkeypatch, deaths, code):
    whole, asked = run.papermill.execute_notebook, []

    def sometimes(*arguments, **settings):
        asked.append(arguments)
        if len(asked) <= deaths:
            raise RuntimeError("Kernel died before replying to kernel_info")
        return whole(*arguments, **settings)

    monkeypatch.setattr(run.papermill, "execute_notebook", sometimes)
    assert run.main([str(checkout.first), "--profile", "quick"]) == code
    assert len(asked) == min(deaths + 1, run.STARTS)
    if code:
        assert "the kernel did not start: Kernel died" in capfd.readouterr().err


def test_a_run_killed_in_the_middle_leaves_nothing_to_publish_and_the_next_goes_on(checkout):
    here = checkout.root / "here"
    wait = "if not place.exists(): place.touch(); time.sleep(60)"
    checkout.notebook(
        checkout.first, [f"import pathlib, time; place = pathlib.Path({str(here)!r})\n{wait}"]
    )
    killed = start(checkout)
    until(here.exists)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert not checkout.executed(checkout.first).exists()
    assert run.main([str(checkout.first), "--profile", "quick"]) == 0
    assert checkout.executed(checkout.first).exists()


def test_a_result_that_the_disk_refuses_is_a_failure(checkout, capfd, monkeypatch):
    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run.papermill, "execute_notebook", refuse)
    assert run.main([str(checkout.first), "--profile", "quick"]) == 1
    assert "a_first  FAILED: [Errno 28] No space left on device" in capfd.readouterr().err
    assert not checkout.executed(checkout.first).exists()


def test_two_runs_of_one_notebook_take_turns(checkout):
    here = checkout.root / "here"
    cell = f"import pathlib, time\nplace = pathlib.Path({str(here)!r})\nalone = not place.exists()"
    checkout.notebook(
        checkout.first, [cell, "place.touch(); time.sleep(1); place.unlink(); print(alone)"]
    )
    both = [start(checkout) for _ in range(2)]
    said = [one.communicate(timeout=120)[1] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert checkout.outputs(checkout.executed(checkout.first)) == "True\n"
    assert sum("waiting" in text for text in said) == 1
