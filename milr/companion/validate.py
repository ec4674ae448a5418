"""Validate an executed notebook: it is whole, and running it again prints the same.

The second execution finds in the cache what took long in the first one, so it takes seconds.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from milr.companion import manifest, progress, results
from milr.companion.profiles import Run, add_arguments, read_notebook, run_of
from milr.companion.run import STARTS, identity
from milr.files import replace_text

LEAST_CELLS, LEAST_SHARE = 3, 0.2
_UNCOMPARED = {"nbval-skip", "nbval-ignore-output", "raises-exception"}


def problems(notebook: dict) -> list[str]:
    """Return what makes comparing this notebook's outputs vacuous, or its results unclear.

    nbval passes over a cell without an execution count, so a stripped notebook always agrees.
    """
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and cell["source"]]
    found = []
    for number, cell in enumerate(cells, start=1):
        if cell["execution_count"] is None:
            found.append(f"code cell {number} has no execution count, so it would not be compared")
        elif cell["execution_count"] != number:
            found.append(f"code cell {number} was executed as number {cell['execution_count']}")
        if any(output["output_type"] == "error" for output in cell["outputs"]):
            found.append(f"code cell {number} ended in an error")
    glued = [key for cell in cells for key in results.recorded(cell)]
    for key, times in Counter(glued).items():
        if times > 1:
            found.append(f"result {key} is recorded {times} times; a page has room for one")
    compared = sum(map(_is_compared, cells))
    least = max(LEAST_CELLS, LEAST_SHARE * len(cells))
    if compared < least:
        found.append(
            f"only {compared} of {len(cells)} code cells print something that is compared; "
            f"at least {LEAST_CELLS} and {LEAST_SHARE:.0%} of them must"
        )
    return found


def is_valid(path: Path) -> bool:
    """Whether the executed notebook at `path`, as it is now, was validated."""
    stamp = path.with_suffix(".valid")
    return stamp.exists() and path.exists() and stamp.read_text() == manifest.digest(path)


def nbval(path: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
    """Run a notebook and compare all its outputs with the stored ones."""
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "nbval.plugin",
        "-p", "milr.companion.compare", "-p", "no:cacheprovider",
        "-c", os.devnull, "--rootdir", ".",
        "--nbval", "--nbval-current-env", path.name,
    ]  # fmt: skip
    # The other plugins of the environment have nothing to do here, and take seconds to load. Nor
    # has what a person has set up for other tests.
    own = {**os.environ, **environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        own.pop(name, None)
    return subprocess.run(
        command,
        # Not the whole path: pytest takes a bracket in it for a parameter.
        cwd=path.parent,
        env=own,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def validate(notebook: Path, run: Run, label: str = "") -> list[str]:
    """Validate the executed notebook of a run; return what is wrong, and stamp it if nothing is."""
    path = manifest.executed(notebook, run).resolve()
    path.with_suffix(".valid").unlink(missing_ok=True)
    try:
        # Before it is read: what takes its place meanwhile was not compared.
        seen = manifest.digest(path)
        wrong = problems(read_notebook(path))
    except FileNotFoundError:
        return [f"{path} is gone (make clean takes it away, too); run it again"]
    if not wrong:
        # Results of this second execution must not replace the evidence of the first.
        second = identity(notebook, run, run.folder / "validation")
        # What could not be fetched the first time would make another chapter of it now.
        second["MILR_OFFLINE"] = "1"
        with progress.told(f"{label} validating", 0):
            for _ in range(STARTS):
                outcome = nbval(path, second)
                # As in `run.execute`: of kernels that start together one can die before it begins.
                if "Kernel died before replying" not in outcome.stdout:
                    break
        wrong = [outcome.stdout] if outcome.returncode else []
        # What it reads may have come in between: then the copy is not wrong, but out of date.
        manifest.look_again()
        if wrong and (reason := manifest.stale(notebook, run)):
            wrong = [f"{reason}; run it again"]
    if not wrong:
        replace_text(path.with_suffix(".valid"), seen)
    return wrong


def main(words: list[str] | None = None) -> int:
    """The command line; returns its exit status, 1 if the notebook is not valid."""
    parser = argparse.ArgumentParser(prog="python -m milr.companion.validate", description=__doc__)
    parser.add_argument("notebook", type=Path, help="the notebook, not its executed copy")
    add_arguments(parser)
    parser.add_argument("--position", default="", help="shown before the name, e.g. [2/4]")
    options = parser.parse_args(words)
    label = f"{options.position} {options.notebook.stem}".strip()
    start = time.monotonic()
    wrong = validate(options.notebook.resolve(), run_of(options), label)
    verdict = "NOT VALID: see above" if wrong else "valid"
    clock = progress.clock(time.monotonic() - start)
    # In one piece, since others that are validated at the same time have something to say too.
    sys.stderr.write("\n".join([*wrong, f"{label}  {verdict}  {clock}\n"]))
    return 1 if wrong else 0


def _is_compared(cell: dict) -> bool:
    if _UNCOMPARED & set(cell["metadata"].get("tags", ())):
        return False
    return any(
        # What stands for a figure, "<IPython...Image object>", is always the same.
        output.get("name") == "stdout" or _shown(output)[:1] not in ("", "<")
        for output in cell["outputs"]
    )


def _shown(output: dict) -> str:
    return "".join(output.get("data", {}).get("text/plain", ""))


if __name__ == "__main__":
    # So that the second execution ends with this process.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
