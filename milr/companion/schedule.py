"""When notebooks are executed and validated: what is due, what comes first, how many at once.

Whenever one ends, the most urgent of those begins that wait for nothing. (GNU make takes the next
in its list, and comes back to a chapter that many wait for only when all others have begun.)
"""

import contextlib
import graphlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from milr.companion import manifest
from milr.companion.profiles import Run
from milr.companion.validate import is_valid

SHORT = ("smoke", "quick")
REFERENCE = "data/reference/full.json"
# Two cores do the work of one notebook about 1.7 times as fast as one of them.
CHAIN = 0.6


class Task(NamedTuple):
    """What is done with one notebook: "run" or "validate", the module of that name."""

    step: str
    notebook: Path


def due(notebooks: list[Path], run: Run) -> dict[Task, set[Task]]:
    """Return what is to be done with these notebooks, and for what of it each has to wait.

    notebooks: those that others need before them. One is executed if its page would be stale, if
    it was touched since, or if one that it needs is; and validated if it is executed, or if its
    copy, as it is now, was not.
    """
    executed: dict[str, Task] = {}
    todo: dict[Task, set[Task]] = {}
    for notebook in notebooks:
        copy = manifest.executed(notebook, run)
        before = {executed[name] for name in manifest.needs(notebook) if name in executed}
        if before or manifest.stale(notebook, run) or _is_newer(notebook, copy):
            executed[notebook.stem] = Task("run", notebook)
            todo[executed[notebook.stem]] = before
            todo[Task("validate", notebook)] = {executed[notebook.stem]}
        elif not is_valid(copy):
            todo[Task("validate", notebook)] = set()
    return todo


def _is_newer(notebook: Path, copy: Path) -> bool:
    return notebook.stat().st_mtime_ns > copy.stat().st_mtime_ns


def urgent(notebooks: list[Path]) -> list[Task]:
    """Return all tasks, the most urgent first.

    Executions come first, by how long they and what waits for them take; validations fill the gaps,
    the longest first. By their names where there is no reference run to say it.
    """
    takes = _seconds(notebooks)
    lasts = _lasting(notebooks, takes)
    executions = sorted(notebooks, key=lambda n: -lasts[n.stem])
    validations = sorted(notebooks, key=lambda n: -takes[n.stem])
    return [Task("run", n) for n in executions] + [Task("validate", n) for n in validations]


def is_chain(notebooks: list[Path]) -> bool:
    """Return whether these notebooks mostly wait for each other, so that a second one at a time
    would find little to do: the longest chain takes more than `CHAIN` of all their time.
    """
    takes = _seconds(notebooks)
    return max(_lasting(notebooks, takes).values(), default=0) > CHAIN * sum(takes.values())


def _seconds(notebooks: list[Path]) -> dict[str, float]:
    """Return what each took in the reference run; 0 where that is unknown."""
    reference = notebooks[0].parent.parent / REFERENCE if notebooks else None
    kept = {}
    if reference and reference.exists():
        # What is wrong with the file, its readers say; here it only tells how long things take.
        with contextlib.suppress(ValueError, KeyError):
            kept = json.loads(reference.read_text())["chapters"]
    return {n.stem: kept.get(n.stem, {}).get("seconds", 0) for n in notebooks}


def _lasting(notebooks: list[Path], takes: dict[str, float]) -> dict[str, float]:
    """Return how long each and the longest chain of what waits for it take."""
    lasts: dict[str, float] = {}
    # Those that others wait for come before them here, so from the end on all is known.
    for notebook in reversed(notebooks):
        waiting = [lasts[n.stem] for n in notebooks if notebook.stem in manifest.needs(n)]
        lasts[notebook.stem] = takes[notebook.stem] + max(waiting, default=0)
    return lasts


def jobs(flags: str, profile: str, chain: bool = False) -> int:
    """Return how many notebooks to run at once: as MAKEFLAGS says, 0 for as many as there are.

    By default two in the short profiles, where much of the time goes into what a second core can't
    speed up (imports, drawing); in the long ones training does, which is faster on all cores. A
    chain, of which each waits for the one before, goes one by one on all cores, too.
    """
    found = re.search(r"(?:^|\s)(?:-\w*)?j(\d*)(?=\s|$)", flags)
    if not found:
        return min(2, cores()) if profile in SHORT and not chain else 1
    if not found.group(1) and "--jobserver" in flags:
        # make 3.81, which macOS has, hands a -j2 on as a bare -j beside its job server.
        return cores()
    return int(found.group(1) or 0)


def threads(at_once: int) -> dict[str, str]:
    """Return the environment that shares the cores out among so many notebooks.

    Two processes with two threads each on two cores are several times slower than with one each.
    """
    share = str(max(1, cores() // at_once))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {name: os.environ.get(name, share) for name in names}


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def carry_out(notebooks: list[Path], run: Run) -> bool:
    """Do what is due with these notebooks; return whether all of it succeeded.

    After a failure what has begun is finished, and with `make -k` all that does not wait for what
    failed. If this process is ended, so is what it has begun.
    """
    flags = os.environ.get("MAKEFLAGS", "")
    at_once = max(1, jobs(flags, run.profile, is_chain(notebooks)) or len(notebooks))
    keep_going = re.match(r"[a-zA-Z]*k[a-zA-Z]*(\s|$)", flags) is not None
    positions = {n: f"[{at}/{len(notebooks)}]" for at, n in enumerate(notebooks, start=1)}
    # A terminal has one line to renew, and several would write on it.
    dumb = {"TERM": "dumb"} if at_once > 1 else {}
    begun: list[subprocess.Popen] = []
    ending = threading.Event()

    def perform(task: Task) -> bool:
        words = [str(task.notebook), *run.arguments, "--position", positions[task.notebook]]
        child = subprocess.Popen(
            [sys.executable, "-m", f"milr.companion.{task.step}", *words],
            env=os.environ | threads(at_once) | dumb,
            stdout=subprocess.DEVNULL,
        )
        begun.append(child)
        # `end` may have looked for what has begun just before this one did.
        if ending.is_set():
            child.terminate()
        return child.wait() == 0

    def end(number: int, _) -> None:
        ending.set()
        for child in begun:
            child.terminate()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    former = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return in_order(due(notebooks, run), urgent(notebooks), perform, at_once, keep_going)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def in_order(
    todo: Mapping[Task, set[Task]],
    order: list[Task],
    perform: Callable[[Task], bool],
    at_once: int,
    keep_going: bool = False,
) -> bool:
    """Perform tasks, at most so many at once, each after what it waits for; earlier ones in `order`
    go first. Return whether all succeeded.

    After a failure nothing is begun any more, or with `keep_going` all that does not wait for it.
    """
    sorter = graphlib.TopologicalSorter(todo)
    sorter.prepare()
    ready: set[Task] = set()
    running, failed = {}, False
    with ThreadPoolExecutor(at_once) as pool:
        while True:
            ready.update(sorter.get_ready())
            while ready and len(running) < at_once and (keep_going or not failed):
                task = min(ready, key=order.index)
                ready.remove(task)
                running[pool.submit(perform, task)] = task
            if not running:
                return not failed
            for ended in wait(running, return_when=FIRST_COMPLETED).done:
                task = running.pop(ended)
                if ended.result():
                    sorter.done(task)
                else:
                    failed = True
