"""Fit several explainers at a time, each on a core of its own, before they are asked for.

These networks are small: processes of one thread each fit more in the same time than one process
with as many threads (`benchmarks/bench_ahead.py`), but for fits of a few seconds.
"""

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence

import torch

from milr import cache, distributed
from milr.models.explainers import Explaining, explain
from milr.paths import ROOT

_LOOK = 0.2  # seconds between two looks at whether one has ended
_NEEDED = 4 * 2**30  # bytes of memory for a fit, with all that is imported


def ahead(asked: Sequence[Explaining], workers: int | None = None) -> int:
    """Fit those that the cache lacks, so that `explain` finds them there; return how many.

    workers: how many at a time; if None, as many as torch has threads and memory has 4 GiB each.
    Where that is one, where one or none is missing, or where another device or several processes
    are asked for, nothing is done: `explain` fits those one after another as fast. What one thread
    fits differs by rounding from what several fit, which a training magnifies, as on another
    machine.
    Raises RuntimeError with the last lines of the first that fails; the others are ended.
    """
    if workers is None:
        workers = min(torch.get_num_threads(), _memory() // _NEEDED)
    kinds = {distributed.make_fabric(one.training.device).device.type for one in asked}
    if workers < 2 or kinds != {"cpu"} or any(one.training.processes > 1 for one in asked):
        return 0
    missing = [one for one in dict.fromkeys(asked) if not _is_kept(one)]
    if len(missing) < 2:
        return 0
    waiting, running = missing[::-1], []
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                running.append(_start(waiting.pop()))
            time.sleep(_LOOK)
            for one in [one for one in running if one[0].poll() is not None]:
                running.remove(one)
                _check_end(*one)
    finally:
        for process, said in running:
            process.kill()
            process.wait()
            said.close()
    return len(missing)


def _memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _is_kept(settings: Explaining) -> bool:
    with cache.only_kept():
        try:
            explain(settings)
        except cache.NotKeptError:
            return False
    return True


def _start(settings: Explaining):
    """A process that fits one explainer, and the file that it writes its messages to."""
    said = tempfile.TemporaryFile()  # noqa: SIM115, closed where the process has ended
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=said,
        env=os.environ | threads | {"PYTHONPATH": path},
    )
    # One that ended before it read them says why, and that is told.
    with contextlib.suppress(BrokenPipeError), process.stdin as to_it:
        to_it.write(pickle.dumps(settings))
    return process, said


def _check_end(process, said) -> None:
    with said:
        if process.returncode:
            said.seek(0)
            lines = said.read().decode(errors="replace").split("\n")
            raise RuntimeError("a fit failed in a process of its own:\n" + "\n".join(lines[-12:]))


def _end_without(parent: int) -> None:
    """End this process once the one that started it is gone: a killed run leaves nothing behind."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_without, args=(int(sys.argv[1]),), daemon=True).start()
    explain(pickle.loads(sys.stdin.buffer.read()))
