"""Refresh the stored reference outputs: run each notebook at its smoke defaults, keep its text."""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import nbformat

from milr.companion import manifest
from milr.companion.profiles import Run
from milr.companion.run import Failed, execute, identity
from milr.companion.validate import problems
from milr.files import replace_text
from milr.paths import ROOT, build_root

_KEPT = ("text/plain",)
_DROPPED_TAGS = {"nbval-ignore-output", "nbval-skip"}


def refresh(notebook: Path, label: str = "") -> bool:
    """Run `notebook` as it stands and store what it prints; return whether that changed.

    Raises ValueError if the outputs would make too weak a test, OSError if the disk refuses the
    notebook, which is then as it was, and what the run raises.
    """
    run = Run(profile="smoke")
    os.environ.update(identity(notebook, run, build_root() / "reference"))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / notebook.name
        execute(notebook, target, {}, label or notebook.stem)
        fresh = nbformat.read(target, as_version=4)
    before = notebook.read_text()
    stored = nbformat.read(notebook, as_version=4)
    for cell, ran in zip(stored.cells, fresh.cells, strict=True):
        if cell.cell_type == "code":
            cell.execution_count = ran.execution_count
            dropped = _DROPPED_TAGS & set(cell.metadata.get("tags", ()))
            cell.outputs = [] if dropped else strip(ran.outputs)
    stored.metadata.pop("papermill", None)
    if weak := problems(json.loads(nbformat.writes(stored))):
        raise ValueError(f"{notebook.name}: {'; '.join(weak)}")
    after = nbformat.writes(stored) + "\n"
    if after != before:
        written = notebook.stat()
        replace_text(notebook, after)
        # Stored outputs are none of what a page is made of: what was executed of it stays so.
        os.utime(notebook, ns=(written.st_atime_ns, written.st_mtime_ns))
    return after != before


def strip(outputs: list) -> list:
    """Return the outputs that are compared: what was printed, and values as text.

    Where what is printed breaks into several outputs depends on how busy the machine is, so what
    follows on itself is one.
    """
    kept = []
    for output in outputs:
        if output.output_type == "stream":
            if output.name == "stdout":
                if kept and kept[-1].output_type == "stream":
                    kept[-1].text += output.text
                else:
                    kept.append(output)
            continue
        text = {kind: output.data[kind] for kind in _KEPT if kind in output.data}
        if text:
            kept.append(nbformat.from_dict({**output, "data": text, "metadata": {}}))
    return kept


def main(words: list[str] | None = None) -> int:
    """The command line; returns its exit status, 1 if a notebook fails or tests too little."""
    parser = argparse.ArgumentParser(prog="python -m milr.companion.reference", description=__doc__)
    parser.add_argument("names", nargs="*", help="names of notebooks; all if none is given")
    options = parser.parse_args(words)
    for notebook in manifest.notebooks(ROOT):
        if not options.names or notebook.stem in options.names:
            try:
                changed = refresh(notebook)
            except (Failed, OSError, ValueError) as error:
                print(f"{notebook.stem}: {error}", file=sys.stderr)
                return 1
            print(f"{notebook.stem}: {'outputs changed' if changed else 'as before'}", flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("Interrupted; the notebook in hand is as it was.", file=sys.stderr)
        sys.exit(130)
