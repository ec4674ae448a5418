"""What is most urgent is begun as soon as it can be, and no more at once than there is room for."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from milr.companion import reproduce, schedule
from milr.companion.schedule import Task
from milr.paths import ROOT


@pytest.fixture
def waiting(tmp_path):
    """A root whose notebooks wait for each other, and what they took if it is told."""
    needs = {"a_short": [], "b_root": [], "c_long": ["b_root"], "d_middle": [], "e_all": ["*"]}
    (tmp_path / "notebooks").mkdir()
    for name, needed in needs.items():
        note = {"cells": [], "metadata": {"milr": {"needs": needed}}}
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text(json.dumps(note))
    chapters = [{"file": f"notebooks/{name}"} for name in needs]
    (tmp_path / "_toc.yml").write_text(json.dumps({"chapters": chapters}))

    def took(**seconds):
        reference = tmp_path / schedule.REFERENCE
        reference.parent.mkdir(parents=True, exist_ok=True)
        kept = {"chapters": {name: {"seconds": s} for name, s in seconds.items()}}
        reference.write_text(json.dumps(kept))

    return SimpleNamespace(root=tmp_path, names=set(needs), took=took)


def order_of(chosen, step):
    return [task.notebook.stem for task in schedule.urgent(chosen) if task.step == step]


def test_what_others_wait_for_longest_is_begun_first(waiting):
    chosen = reproduce.choose(waiting.root, [])
    assert {path.stem for path in chosen} == waiting.names
    assert order_of(chosen, "run") == order_of(chosen, "validate") == [n.stem for n in chosen]
    waiting.took(a_short=1, b_root=2, c_long=90, d_middle=30)
    assert order_of(chosen, "run") == ["b_root", "c_long", "d_middle", "a_short", "e_all"]
    assert order_of(chosen, "validate") == ["c_long", "d_middle", "b_root", "a_short", "e_all"]


def test_notebooks_that_wait_for_each_other_are_a_chain(waiting):
    chosen = reproduce.choose(waiting.root, [])
    assert not schedule.is_chain(chosen) and not schedule.is_chain([])
    waiting.took(a_short=25, b_root=50, c_long=50, d_middle=50)
    assert not schedule.is_chain(chosen)
    assert schedule.is_chain(reproduce.choose(waiting.root, ["c_long"]))
    waiting.took(a_short=1, b_root=50, c_long=50, d_middle=50)
    assert schedule.is_chain(chosen)


class Worker:
    """Performs tasks that end when they are told to, and notes what was begun and how many ran."""

    def __init__(self, *failing):
        self.failing, self.begun, self.running, self.most = failing, [], 0, 0
        self.changed = threading.Condition()
        self.released = set()

    def __call__(self, task):
        with self.changed:
            self.begun.append(task.notebook.name)
            self.running += 1
            self.most = max(self.most, self.running)
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: task.notebook.name in self.released, timeout=10)
            self.running -= 1
        return task.notebook.name not in self.failing

    def end(self, name, *, then):
        """Let a task end, and wait until these have been begun."""
        with self.changed:
            self.released.add(name)
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: self.begun == then, timeout=10), self.begun


def go(worker, waits, at_once, **how):
    """Carry them out in a thread of its own; what they wait for: {"b": "a"}."""
    tasks = {name: Task("run", Path(name)) for name in waits}
    todo = {tasks[name]: {tasks[one] for one in before} for name, before in waits.items()}
    result = []

    def work():
        result.append(schedule.in_order(todo, list(tasks.values()), worker, at_once, **how))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, result


def test_what_was_waited_for_is_not_put_behind_what_could_have_begun_before():
    # "b" is second in the order: it begins when "a" ends, though "d" and "e" were ready all along.
    worker = Worker()
    waits = {"a": "", "b": "a", "c": "", "d": "", "e": ""}
    thread, result = go(worker, waits, at_once=2)
    worker.end("", then=["a", "c"])
    worker.end("c", then=["a", "c", "d"])
    worker.end("a", then=["a", "c", "d", "b"])
    worker.end("b", then=["a", "c", "d", "b", "e"])
    for name in "de":
        worker.end(name, then=["a", "c", "d", "b", "e"])
    thread.join(10)
    assert result == [True] and worker.most == 2


@pytest.mark.parametrize(("keep_going", "later"), [(False, []), (True, ["d"])])
def test_what_has_begun_is_finished_after_a_failure(keep_going, later):
    worker = Worker("a")
    waits = {"a": "", "b": "", "c": "a", "d": ""}
    thread, result = go(worker, waits, at_once=2, keep_going=keep_going)
    worker.end("", then=["a", "b"])
    worker.end("a", then=["a", "b", *later])
    time.sleep(0.5)  # or "b" can have ended before it is known that "a" failed, and "d" begins
    for name in ["b", *later]:
        worker.end(name, then=["a", "b", *later])
    thread.join(10)
    assert result == [False] and worker.running == 0


# What stands in for the program that builds the book: it takes for ever.
BUILDING = """
import os, time
def main():
    open({said!r}, "w").write(str(os.getpid()))
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("execution", "number", "code"),
    [(1, signal.SIGTERM, 143), (2, signal.SIGTERM, 143), (3, signal.SIGTERM, 143),
     (1, signal.SIGINT, 130)],
    ids=["run", "validate", "book", "interrupted run"],
)  # fmt: skip
def test_what_runs_is_ended_with_the_run(checkout, tmp_path, execution, number, code):
    said, seen = tmp_path / "process", tmp_path / "executions"
    count = f"import os, time; open({str(seen)!r}, 'a').write('.'); print(1)"
    wait = f"if len(open({str(seen)!r}).read()) == {execution}: "
    wait += f"open({str(said)!r}, 'w').write(str(os.getppid())); time.sleep(600)"
    checkout.notebook(checkout.first, [count, f"{wait}\nprint(1)", "print(2)"])
    program = tmp_path / "programs" / "jupyter_book" / "cli" / "main.py"
    program.parent.mkdir(parents=True)
    for folder in (program.parent, program.parent.parent):
        (folder / "__init__.py").touch()
    program.write_text(BUILDING.format(said=str(said)))
    words = ["--root", str(checkout.root), "--profile", "quick", "--only", "a_first"]
    run = subprocess.Popen(
        [sys.executable, "-m", "milr.companion.reproduce", *words],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path / 'programs'}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 60
    while not (said.exists() and said.read_text()):
        assert time.monotonic() < until and run.poll() is None
        time.sleep(0.1)
    run.send_signal(number)
    assert run.wait(30) == code
    with pytest.raises(ProcessLookupError):
        os.kill(int(said.read_text()), 0)


def test_what_begins_just_as_the_run_is_ended_is_ended_too(checkout, monkeypatch):
    ended = threading.Event()

    class Child:
        def __init__(self, *_, **__):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
            time.sleep(0.5)  # until the run has looked for what it has begun, and not found this

        def terminate(self):
            ended.set()

        def wait(self):
            return 0 if ended.wait(5) else 1

    monkeypatch.setattr(subprocess, "Popen", Child)
    with pytest.raises(SystemExit):
        schedule.carry_out([checkout.first], checkout.run)
    assert ended.wait(5)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("", 1), (" -j2 --jobserver-auth=3,4", 2), ("ks -j16 --jobserver-auth=3,4 -- SEED=3", 16),
     (" -j", 0), ("-- PROFILE=quick", 1), ("k -- DATA=birds", 1), (" -j1", 1)],
)  # fmt: skip
def test_the_number_of_jobs_is_read_from_makes_flags(flags, expected):
    assert schedule.jobs(flags, "full") == expected


def test_an_old_make_that_hides_the_number_gets_as_many_as_there_are_cores(monkeypatch):
    monkeypatch.setattr(schedule, "cores", lambda: 4)
    assert schedule.jobs(" --jobserver-fds=3,4 -j", "quick") == 4


def test_two_at_once_in_the_short_profiles_unless_make_is_told_otherwise(monkeypatch):
    for count, expected in ((1, 1), (2, 2), (16, 2)):
        monkeypatch.setattr(schedule, "cores", lambda count=count: count)
        assert [schedule.jobs("", p) for p in ("smoke", "quick", "full", "paper")] == [
            expected, expected, 1, 1,
        ]  # fmt: skip
    assert schedule.jobs(" -j1", "quick") == 1 and schedule.jobs(" -j3", "full") == 3
    assert schedule.jobs("", "quick", chain=True) == 1
    assert schedule.jobs(" -j2", "quick", chain=True) == 2


def test_threads_are_shared_out(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(schedule, "cores", lambda: 8)
    assert [schedule.threads(count)["OMP_NUM_THREADS"] for count in (1, 2, 3, 16)] == [
        "8", "4", "2", "1",
    ]  # fmt: skip
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert schedule.threads(1)["OMP_NUM_THREADS"] == "3"
