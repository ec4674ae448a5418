"""Execute one notebook: `python -m milr.companion.run notebooks/02_birds.ipynb --profile quick`.

The executed notebook appears whole or not at all. A failed one is kept aside with its traceback.
"""

import argparse
import logging
import os
import re
import shutil
import sys
import time
from pathlib import Path

import papermill
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from milr.companion import manifest, progress
from milr.companion.profiles import Run, add_arguments, read_notebook, run_of
from milr.files import hold
from milr.paths import ROOT

STARTS = 3  # of a kernel, before a run is given up


class OwnKernelManager(AsyncKernelManager):
    """Starts kernels of this very environment, whatever JUPYTER_PATH says."""

    def _kernel_spec_manager_default(self) -> KernelSpecManager:
        # Without any folder to look in, python3 is the one of sys.executable.
        return KernelSpecManager(parent=self, kernel_dirs=[])


def main(words: list[str] | None = None) -> int:
    """The command line; returns its exit status.

    0 if the notebook was executed, 1 if it failed, 2 if what was asked for is refused.
    """
    options = _parser().parse_args(words)
    run, notebook = run_of(options), options.notebook.resolve()
    if not notebook.is_file():
        print(f"there is no notebook {options.notebook}", file=sys.stderr)
        return 2
    target = manifest.executed(notebook, run)
    label = f"{options.position} {notebook.stem}".strip()
    busy = f"{label}  another run has it in hand; waiting"
    with hold(target.with_name(f".{notebook.stem}.lock"), busy):
        try:
            made_of = manifest.ingredients(notebook, run)
        except ValueError as error:
            print(f"refused: {error}", file=sys.stderr)
            return 2
        return _run(notebook, run, made_of, target.resolve(), label)


class Failed(Exception):
    """A cell of a notebook failed: its number in the notebook as committed, what, and where."""

    def __init__(self, cell: int, what: str, trace: str = ""):
        super().__init__(f"FAILED in cell {cell}: {strip_ansi(what)}")
        self.trace = strip_ansi(trace)


def execute(notebook: Path, target: Path, parameters: dict, label: str) -> None:
    """Execute a notebook to the file `target`, in its own folder, saying how far it is.

    Raises Failed, naming the cell; `target` then holds the failed notebook if there is one.
    """
    logging.getLogger("papermill").setLevel(logging.ERROR)
    cells = read_notebook(notebook)["cells"]
    tagged = ("parameters" in cell["metadata"].get("tags", ()) for cell in cells)
    injected = next((i for i, found in enumerate(tagged) if found), 0) if parameters else len(cells)
    at = 0

    def number(index: int) -> int:
        return index if index > injected else index + 1

    def start(cell: dict, cell_index: int) -> None:
        nonlocal at
        at = number(cell_index)
        reached(at)

    def go() -> None:
        papermill.execute_notebook(
            notebook,
            target,
            parameters,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            request_save_on_cell_execute=False,
            autosave_cell_every=0,
            cwd=notebook.parent,
            kernel_manager_class=OwnKernelManager,
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
            on_cell_start=start,
        )

    try:
        with progress.told(label, len(cells)) as reached:
            for left in reversed(range(STARTS)):
                try:
                    go()
                    break
                except RuntimeError as error:
                    # Kernels that start at the same moment can be told the same free port, and
                    # then one of them dies before it has run anything.
                    if at or isinstance(error, DeadKernelError) or not left:
                        raise
    except PapermillExecutionError as error:
        what = f"{error.ename}: {error.evalue}"
        raise Failed(number(error.cell_index), what, "\n".join(error.traceback)) from error
    except DeadKernelError as error:
        raise Failed(at, "the kernel died (out of memory?)") from error
    except RuntimeError as error:
        if at:
            raise
        raise Failed(at, f"the kernel did not start: {error}") from error


def identity(notebook: Path, run: Run, results: Path) -> dict[str, str]:
    """Return the environment that tells a notebook who it is and where its results go."""
    return {
        "MILR_NOTEBOOK": notebook.stem,
        "MILR_PROFILE": run.profile,
        "MILR_DATASET": run.data,
        "MILR_SEED": str(run.seed),
        "MILR_DEVICE": run.device,
        "MILR_RESULTS": str(results),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        # A person's own start-up files and settings of figures belong to other work. Figures have
        # matplotlib's own, and on top of them `milr.mplstyle` while they are made.
        "IPYTHONDIR": str(results / "ipython"),
        "MATPLOTLIBRC": os.devnull,
        # A kernel's string hashes, and with them the order of sets, are the same in every run.
        "PYTHONHASHSEED": "0",
    }


def _run(notebook: Path, run: Run, made_of: dict, target: Path, label: str) -> int:
    os.environ.update(identity(notebook, run, run.folder))
    unfinished = target.with_name(f".{notebook.stem}.part.ipynb")
    failed = target.parent.parent / "failed" / notebook.name
    # Whatever was there is out of date from here on, also if this process is killed.
    for old in (target.with_suffix(".json"), target, target.with_suffix(".valid"), failed,
                run.folder / "results" / f"{notebook.stem}.json"):  # fmt: skip
        old.unlink(missing_ok=True)
    start = time.monotonic()
    try:
        execute(notebook, unfinished, made_of["parameters"], label)
        os.replace(unfinished, target)
        # What it fetched is what it was made from. (What came from elsewhere meanwhile is not.)
        manifest.look_again()
        made_of["fetched"] = manifest.fetched_digest(notebook)
        manifest.write(target, made_of, time.monotonic() - start)
    except Failed as error:
        print(error.trace, file=sys.stderr)
        print(f"{label}  {error}", file=sys.stderr, flush=True)
    except OSError as error:
        print(f"{label}  FAILED: {error}", file=sys.stderr)
    else:
        seconds = progress.clock(time.monotonic() - start)
        print(f"{label}  done  {seconds}", file=sys.stderr, flush=True)
        return 0
    if unfinished.exists():
        failed.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(unfinished, failed)
        print(f"kept aside: {failed}", file=sys.stderr)
    return 1


def strip_ansi(text: str) -> str:
    """Return the text without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m milr.companion.run", description=__doc__)
    parser.add_argument("notebook", type=Path)
    add_arguments(parser)
    parser.add_argument("--position", default="", help="shown before the name, e.g. [2/4]")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
