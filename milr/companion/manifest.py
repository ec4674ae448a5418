"""What an executed notebook was made from, so that a stale page is recognised.

The manifest of `notebooks/NAME.ipynb` in the folder of a run is `notebooks/NAME.json` beside it,
written after it. Without a manifest that agrees with everything there is no page.
"""

import functools
import hashlib
import json
import sys
from pathlib import Path

from milr.companion.profiles import Run, read_notebook, resolve
from milr.files import UNFINISHED, files_below, read_yaml, replace_text
from milr.paths import CUB, ROOT, data_root

# These run the notebooks and make the pages; what a notebook computes does not depend on them.
_MACHINERY = {"companion/" + name + ".py" for name in (
    "__init__", "compare", "manifest", "profiles", "progress", "reference", "reproduce", "run",
    "schedule", "serve", "stage", "validate",
)}  # fmt: skip


def notebooks(root: Path) -> list[Path]:
    """Return the chapters that `_toc.yml` of a checkout names, in the order of their names.

    A notebook that only lies beside them, such as a copy, is none.
    """
    contents = read_yaml(root / "_toc.yml")
    paths = [root / f"{page}.ipynb" for page in _pages(contents) if page.startswith("notebooks/")]
    return sorted(path for path in paths if path.exists())


def needs(notebook: Path) -> list[str]:
    """Return the names of the notebooks whose results this one uses: its `milr.needs` metadata.

    `["*"]` there stands for all other notebooks.
    """
    named = _told(notebook, "needs")
    others = [path.stem for path in notebooks(notebook.parent.parent) if path.name != notebook.name]
    return others if named == ["*"] else named


def reads(notebook: Path) -> list[str]:
    """Return the files of the checkout that a notebook reads: its `milr.reads` metadata."""
    return _told(notebook, "reads")


def data_digest(notebook: Path, run: Run) -> str:
    """Return the digest of the data sets that a notebook uses, as far as they are there.

    Those are the photographs in a run of them, and what the notebook's `milr.data` metadata names:
    folders below the data root.
    """
    photographs = [CUB] if run.data == "cub" else []
    return _files_digest(data_root(), (*photographs, *_told(notebook, "data")))


def fetched_digest(notebook: Path) -> str:
    """Return the digest of what a notebook fetches if need be: its `milr.fetches` metadata."""
    return _files_digest(data_root(), tuple(_told(notebook, "fetches")))


def look_again() -> None:
    """Forget what the data sets looked like: another process may have added to them."""
    _files_digest.cache_clear()


def executed(notebook: Path, run: Run) -> Path:
    """Where the executed notebook of a run lies."""
    return run.folder / "notebooks" / notebook.name


def ingredients(notebook: Path, run: Run) -> dict:
    """Return what the outcome of a notebook depends on: digests, and the parameters as they are."""
    return {
        "notebook": _source_digest(notebook),
        "parameters": resolve(notebook, run),
        "sources": sources_digest(),
        "lock": digest(ROOT / "requirements.lock"),
        "Python": ".".join(map(str, sys.version_info[:2])),
        "data": data_digest(notebook, run),
        "fetched": fetched_digest(notebook),
        "needs": {
            name: read(executed(notebook.with_name(f"{name}.ipynb"), run)).get("executed", "")
            for name in needs(notebook)
        },
    } | _read(notebook)


def write(path: Path, made_of: dict, seconds: float) -> None:
    """Write the manifest of the executed notebook at `path`.

    It names the figures and results that the notebook made, with their sizes in bytes. Raises
    OSError if one of its figures is not there.
    """
    note = {"ingredients": made_of, "executed": digest(path), "seconds": round(seconds, 1)}
    note["made"] = {name: (path.parent.parent / name).stat().st_size for name in _made(path)}
    replace_text(path.with_suffix(".json"), json.dumps(note, indent=1))


def read(path: Path) -> dict:
    """Return the manifest of the executed notebook at `path`; empty if there is none."""
    try:
        return json.loads(path.with_suffix(".json").read_text())
    except (FileNotFoundError, ValueError):
        return {}


def stale(notebook: Path, run: Run) -> str:
    """Return why the executed notebook of a run can't be shown, or an empty string."""
    path = executed(notebook, run)
    note = read(path)
    if not note or not path.exists():
        return "it was not executed"
    if digest(path) != note.get("executed"):
        return "the executed notebook was changed afterwards"
    for name, size in note.get("made", {}).items():
        file = run.folder / name
        if not file.exists() or file.stat().st_size != size:
            return f"its {file.parent.name} are gone, or are not those that it made"
    now = json.loads(json.dumps(ingredients(notebook, run)))
    then = note["ingredients"]
    words = {"notebook": "the notebook", "sources": "the code", "needs": "a notebook that it uses",
             "reads": "a file that it reads", "fetched": "the data"}  # fmt: skip
    differing = [words.get(key, f"the {key}") for key in now if now[key] != then.get(key)]
    return f"it was executed with another version of {', '.join(differing)}" if differing else ""


def digest(path: Path) -> str:
    """Return the first half of the SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def sources_digest() -> str:
    """Return the digest of the sources that the outcome of a notebook depends on: the code of
    the package, and the style of its figures.
    """
    package = ROOT / "milr"
    total = hashlib.sha256()
    for path in files_below(package, "*.py", "*.mplstyle"):
        name = path.relative_to(package).as_posix()
        if name not in _MACHINERY:
            total.update(f"{name} {digest(path)}\n".encode())
    return total.hexdigest()[:32]


def _pages(part: dict) -> list[str]:
    """Files of a table of contents, at any depth: of parts, of chapters and of sections."""
    below = (one for name in ("parts", "chapters", "sections") for one in part.get(name, ()))
    own = [part["file"]] if "file" in part else []
    return own + [page for one in below for page in _pages(one)]


def _told(notebook: Path, name: str) -> list[str]:
    """What a notebook's `milr` metadata tell under this name."""
    return read_notebook(notebook)["metadata"].get("milr", {}).get(name, [])


def _made(path: Path) -> list[str]:
    """Files that the executed notebook at `path` made for pages, below the folder of its run."""
    outputs = [
        output.get("metadata", {}).get("image/png", {})
        for cell in read_notebook(path)["cells"]
        for output in cell.get("outputs", ())
    ]
    names = [shown["milr"]["name"] for shown in outputs if "milr" in shown]
    results = f"results/{path.stem}.json"
    recorded = [results] if (path.parent.parent / results).exists() else []
    return [f"figures/{name}.{ending}" for name in names for ending in ("png", "npz")] + recorded


def _read(notebook: Path) -> dict:
    """Digests of the files that a notebook reads, an empty one for a file that is not there yet."""
    paths = {name: notebook.parent.parent / name for name in reads(notebook)}
    found = {name: digest(path) if path.exists() else "" for name, path in paths.items()}
    return {"reads": found} if found else {}


def _source_digest(notebook: Path) -> str:
    """Digest of what is run and read; stored reference outputs do not count."""
    content = read_notebook(notebook)
    kept = [
        [cell["cell_type"], "".join(cell["source"]), cell["metadata"].get("tags", [])]
        for cell in content["cells"]
    ]
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()[:32]


@functools.cache
def _files_digest(root: Path, names: tuple[str, ...]) -> str:
    """Digest of names and sizes: reading all photographs would take longer than it is worth.

    What a download has not finished does not count. Empty if there is no file.
    """
    lines = [
        f"{path.relative_to(root)} {path.stat().st_size}\n"
        for folder in sorted({root / name for name in names})
        for path in files_below(folder)
        if path.suffix not in UNFINISHED
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:32] if lines else ""
