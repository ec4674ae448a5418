"""Run the notebooks in their order, validate them and build the book: `make reproduce`."""

import argparse
import contextlib
import graphlib
import os
import signal
import sys
from pathlib import Path

from milr.companion import manifest, schedule, stage
from milr.companion.profiles import Run, add_arguments, load, read_notebook, resolve, run_of
from milr.files import hold
from milr.paths import CUB, GET_CUB, ROOT, data_root

STEPS = ("reproduce", "validate", "book")


def main(words: list[str] | None = None) -> int:
    """The command line; returns its exit status.

    0 if all is done, 1 if a notebook or the book failed, 2 if what was asked for is refused.
    """
    options = _parser().parse_args(words)
    run = run_of(options)
    try:
        chosen = choose(options.root, options.only)
        if options.step == "book" and not options.only:
            chosen = were_run(chosen, run)
        for notebook in chosen:
            resolve(notebook, run)
        load(options.root / "notebooks", run.profile)
        if options.step != "book":
            refuse_absent(run)
    except ValueError as error:
        print(f"refused: {error}", file=sys.stderr)
        return 2
    busy = f"another run works in {_short(run.folder)}; waiting for it"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold(run.folder / ".lock", busy))
        except OSError as error:
            words = "nothing can be written there; MILR_BUILD names another folder than build"
            print(f"refused: {error}: {words}", file=sys.stderr)
            return 2
        try:
            return _do(options.step, options.root, run, chosen)
        except stage.Refused as error:
            print(error, file=sys.stderr)
            return 1
        except OSError as error:
            print(f"{error}. What has run is kept; give the command again", file=sys.stderr)
            return 1


def choose(root: Path, names: list[str]) -> list[Path]:
    """Return the notebooks of these names (all, if none) and those they need, in order.

    Raises ValueError for unknown names, for notebooks that need each other, and for one of the
    book that can't be read, chosen or not: the book shows those that were not run, too.
    """
    known = {notebook.stem: notebook for notebook in manifest.notebooks(root)}
    for notebook in known.values():
        read_notebook(notebook)
    wanted, order = list(names or known), graphlib.TopologicalSorter()
    for name in wanted:
        if name not in known:
            raise ValueError(
                f"there is no notebook {name!r} in _toc.yml; there are {', '.join(known)}"
            )
        needed = manifest.needs(known[name])
        order.add(name, *needed)
        wanted += [other for other in needed if other not in wanted]
    try:
        return [known[name] for name in order.static_order()]
    except graphlib.CycleError as error:
        raise ValueError(f"notebooks need each other: {' -> '.join(error.args[1])}") from error


def were_run(notebooks: list[Path], run: Run) -> list[Path]:
    """Return those that were executed in this run, or failed. Raises ValueError if none was."""
    places = {n: (manifest.executed(n, run), run.folder / "failed" / n.name) for n in notebooks}
    found = [notebook for notebook in notebooks if any(p.exists() for p in places[notebook])]
    if not found:
        raise ValueError(f"no notebook was run in {_short(run.folder)}; run `make reproduce` first")
    return found


def refuse_absent(run: Run) -> None:
    """Refuse what this machine lacks, before a page is made out of date.

    Raises ValueError for a device that is not there, and for photographs that are not.
    """
    photographs = data_root() / CUB / "images.txt"
    if run.data == "cub" and not photographs.is_file():
        raise ValueError(f"{photographs} is missing. {GET_CUB}")
    if run.device not in ("auto", "cpu"):
        # Imported here: it brings torch, which takes seconds and which the others don't need.
        from milr.distributed import make_fabric

        make_fabric(run.device)


def _do(step: str, root: Path, run: Run, chosen: list[Path]) -> int:
    before = {notebook: manifest.read(manifest.executed(notebook, run)) for notebook in chosen}
    if step == "validate":
        for notebook in chosen:
            manifest.executed(notebook, run).with_suffix(".valid").unlink(missing_ok=True)
    if step != "book":
        done = schedule.carry_out(chosen, run)
        manifest.look_again()
        if not done:
            print(table(chosen, run, before), file=sys.stderr)
            print("The book was not built.", file=sys.stderr)
            return 1
    if step == "validate":
        print(table(chosen, run, before))
        return 0
    if step == "reproduce" and stage.is_current(root, run):
        print("Nothing has changed.")
        print(table(chosen, run, before))
    else:
        # The book takes a while; what the notebooks did is to be read meanwhile.
        print(table(chosen, run, before), flush=True)
        stage.build(root, run, chosen)
    print(f"book  {_short(stage.page(run))}")
    return 0


def table(chosen: list[Path], run: Run, before: dict[Path, dict]) -> str:
    """Return a line for each notebook: its name, status and seconds."""
    lines = [f"{'notebook':<32}{'status':<16}{'seconds':>8}"]
    for notebook in chosen:
        path = manifest.executed(notebook, run)
        note = manifest.read(path)
        if (run.folder / "failed" / notebook.name).exists():
            status = "failed"
        elif not note:
            status = "not run"
        elif manifest.stale(notebook, run):
            status = "out of date"
        elif not stage.is_valid(path):
            status = "not validated"
        else:
            status = "up to date" if note == before[notebook] else "done"
        lines.append(f"{notebook.stem:<32}{status:<16}{note.get('seconds', ''):>8}")
    return "\n".join(lines)


def _short(path: Path) -> str:
    return os.path.relpath(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m milr.companion.reproduce", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--only", nargs="*", default=[], help="names of notebooks")
    parser.add_argument("--step", choices=STEPS, default="reproduce")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of notebooks and book")
    return parser


if __name__ == "__main__":
    # So that what builds the book ends with this process, before another run takes the lock.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("Interrupted; the next run goes on from here.", file=sys.stderr)
        sys.exit(130)
