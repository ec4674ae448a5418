"""Execute one notebook: `python -m milr.companion.run notebooks/02_birds.ipynb --profile quick`.

The executed notebook appears whole or not at all. A failed one is kept aside with its traceback.
"""

import argparse
import json
import logging
import os
import re
import shutil
import sys
import time
from pathlib import Path

import papermill
import yaml
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from milr.companion import manifest, progress
from milr.companion.profiles import Run, add_arguments, run_of
from milr.files import hold
from milr.paths import ROOT


class OwnKernelManager(AsyncKernelManager):
    """Starts kernels of this very environment, whatever JUPYTER_PATH says."""

    def _kernel_spec_manager_default(self) -> KernelSpecManager:
        # Without any folder to look in, python3 is the one of sys.executable.
        return KernelSpecManager(parent=self, kernel_dirs=[])


def main(words: list[str] | None = None) -> int:
    options = _parser().parse_args(words)
    run, notebook = run_of(options), options.notebook.resolve()
    if not notebook.is_file():
        print(f"there is no notebook {options.notebook}", file=sys.stderr)
        return 2
    target = options.out or manifest.executed(notebook, run)
    label = f"{options.position} {notebook.stem}".strip()
    busy = f"{label}  another run has it in hand; waiting"
    with hold(target.with_name(f".{notebook.stem}.lock"), busy):
        try:
            made_of = manifest.ingredients(notebook, run, dict(options.set))
        except ValueError as error:
            print(f"refused: {error}", file=sys.stderr)
            return 2
        return _run(notebook, run, made_of, target.resolve(), label)


def execute(notebook: Path, target: Path, parameters: dict, label: str) -> None:
    """Execute a notebook to the file `target`, in its own folder, saying how far it is.

    Raises what papermill and nbclient raise; `target` then holds the failed notebook, if any.
    """
    logging.getLogger("papermill").setLevel(logging.ERROR)
    cells = len(json.loads(notebook.read_text())["cells"])
    with progress.told(label, cells) as reached:
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
            on_cell_start=lambda cell, cell_index: reached(min(cell_index + 1, cells)),
        )


def identity(notebook: Path, run: Run, results: Path) -> dict[str, str]:
    """Return the environment that tells a notebook who it is and where its results go."""
    return {
        "MILR_NOTEBOOK": notebook.stem,
        "MILR_PROFILE": run.profile,
        "MILR_DATASET": run.data,
        "MILR_SEED": str(run.seed),
        "MILR_RESULTS": str(results),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
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
        manifest.write(target, made_of, time.monotonic() - start)
    except PapermillExecutionError as error:
        _report(label, f"cell {error.cell_index + 1}", f"{error.ename}: {error.evalue}", error)
    except DeadKernelError as error:
        _report(label, "a cell", f"its kernel died (out of memory?): {error}", None)
    except OSError as error:
        _report(label, "its result", f"could not be written: {error}", None)
    else:
        seconds = progress.clock(time.monotonic() - start)
        print(f"{label}  done  {seconds}", file=sys.stderr, flush=True)
        return 0
    if unfinished.exists():
        failed.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(unfinished, failed)
        print(f"kept aside: {failed}", file=sys.stderr)
    return 1


def _report(label: str, where: str, what: str, error: PapermillExecutionError | None) -> None:
    if error:
        print(_plain("\n".join(error.traceback)), file=sys.stderr)
    print(f"{label}  FAILED in {where}: {_plain(what)}", file=sys.stderr, flush=True)


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def _setting(text: str) -> tuple[str, object]:
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r}: write it as name=value")
    return name, yaml.safe_load(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m milr.companion.run", description=__doc__)
    parser.add_argument("notebook", type=Path)
    add_arguments(parser)
    parser.add_argument("--out", type=Path, help="file of the executed notebook")
    parser.add_argument("--set", type=_setting, action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--position", default="", help="shown before the name, e.g. [2/4]")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
