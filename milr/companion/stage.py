"""Stage the book (prose and executed notebooks side by side) and build it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from milr.companion import figures, manifest, progress, results
from milr.companion.profiles import Run, read_notebook
from milr.companion.run import strip_ansi
from milr.companion.validate import is_valid
from milr.files import replace_text

_NOT_RUN = """```{admonition} Not run
:class: warning
This chapter was not part of the last run: `make reproduce` fills it.
```"""


class Refused(Exception):
    """A page that must not be published, or a book that could not be built."""


def refuse_stale(notebooks: Sequence[Path], run: Run) -> None:
    """Raise Refused if a page would show something else than these notebooks in this run."""
    for notebook in notebooks:
        reason = manifest.stale(notebook, run)
        if not reason and not is_valid(manifest.executed(notebook, run)):
            reason = "it was not validated"
        if reason:
            raise Refused(f"page {notebook.stem} can't be shown: {reason}. Run `make reproduce`.")


def build(root: Path, run: Run, chosen: Sequence[Path]) -> Path:
    """Build the book of a run and return its first page.

    `chosen` are the notebooks that must be there; others are shown as executed if they are up to
    date, and otherwise as not run, which allows warnings, since pages refer to each other.

    Raises Refused if one of `chosen` is stale, for two figures in one cell, or if the build says a
    warning or fails.
    """
    refuse_stale(chosen, run)
    # Before anything is read: what is changed while the book is built is not in it.
    shown = fingerprint(root, run)
    source, fresh = run.folder / "book-src", run.folder / "book-new"
    for folder in (source, fresh):
        shutil.rmtree(folder, ignore_errors=True)
    absent = stage(root, run, source)
    log = run.folder / "book.log"
    strict = [] if absent else ["-W", "-n"]
    with progress.told("book", 0), open(log, "w") as file:
        done = subprocess.run(
            # -all and -W together: an incremental build forgets the warnings of the one before.
            [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build",
             source, "--path-output", fresh, "--keep-going", "--all", *strict],
            stdout=file, stderr=subprocess.STDOUT, cwd=run.folder,
        )  # fmt: skip
    if done.returncode:
        raise Refused(f"the book could not be built ({log}):\n{_complaints(log)}")
    _swap(fresh / "_build" / "html", run.folder / "book")
    shutil.rmtree(fresh, ignore_errors=True)
    replace_text(run.folder / "book.json", json.dumps(shown))
    return page(run)


def page(run: Run) -> Path:
    """Return the first page of the book of a run."""
    return run.folder / "book" / "index.html"


def is_current(root: Path, run: Run) -> bool:
    """Whether the book of a run shows everything as it is now."""
    try:
        built = json.loads((run.folder / "book.json").read_text())
    except (FileNotFoundError, ValueError):
        return False
    return page(run).exists() and built == fingerprint(root, run)


def fingerprint(root: Path, run: Run) -> str:
    """Digest of everything that the book is made of."""
    made_of = [root / "_config.yml", root / "_toc.yml", Path(__file__), Path(figures.__file__)]
    made_of += sorted(path for path in (root / "book").rglob("*") if path.is_file())
    made_of += [
        manifest.executed(notebook, run) if _can_be_shown(notebook, run) else notebook
        for notebook in manifest.notebooks(root)
    ]
    total = "".join(f"{path.name} {manifest.digest(path)}\n" for path in made_of)
    return hashlib.sha256(total.encode()).hexdigest()


def stage(root: Path, run: Run, source: Path) -> list[str]:
    """Fill `source` with prose and notebooks; return the names of the notebooks not run.

    Raises Refused for a notebook with two figures in one cell.
    """
    ignore = shutil.ignore_patterns("__pycache__", ".*", "_build")
    shutil.copytree(root / "book", source / "book", ignore=ignore)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copyfile(root / name, source / name)
    pages = source / "notebooks"
    pages.mkdir()
    absent = []
    for notebook in manifest.notebooks(root):
        if _can_be_shown(notebook, run):
            content = read_notebook(manifest.executed(notebook, run))
            _quiet(content)
            anchor_results(content)
            try:
                figures.for_page(content, run.folder, pages)
            except ValueError as error:
                raise Refused(f"page {notebook.stem} can't be shown: {error}") from error
        else:
            content = _not_run(read_notebook(notebook))
            absent.append(notebook.stem)
        (pages / notebook.name).write_text(json.dumps(content, indent=1))
    return absent


def _can_be_shown(notebook: Path, run: Run) -> bool:
    return is_valid(manifest.executed(notebook, run)) and not manifest.stale(notebook, run)


def _quiet(content: dict) -> None:
    """Leave out stderr: progress and cache messages were for the person who watched."""
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [
                output for output in cell["outputs"] if output.get("name") != "stderr"
            ]


def anchor_results(content: dict) -> None:
    """Name the place of every cell that recorded a result: the scorecard leads to it."""
    cells = []
    for cell in content["cells"]:
        if results.recorded(cell):
            name = results.anchor(cell)
            mark = {"cell_type": "markdown", "id": name, "metadata": {}}
            cells.append(mark | {"source": f'<div id="{name}"></div>'})
        cells.append(cell)
    content["cells"] = cells


def _not_run(content: dict) -> dict:
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    # After the first cell: that one has the title, and labels stand before it.
    note = {"cell_type": "markdown", "id": "not-run", "metadata": {}, "source": _NOT_RUN}
    content["cells"].insert(1, note)
    return content


def _complaints(log: Path) -> str:
    lines = strip_ansi(log.read_text(errors="replace")).splitlines()
    named = [line for line in lines if "WARNING" in line or "ERROR" in line]
    return "\n".join(named or lines[-20:])


def _swap(new: Path, target: Path) -> None:
    """Put a folder in the place of another; a build that failed has left the former one."""
    old = target.with_name(f"{target.name}-old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    os.replace(new, target)
    shutil.rmtree(old, ignore_errors=True)
