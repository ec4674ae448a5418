"""Run the notebooks in their order, validate them and build the book: `make reproduce`.

GNU make holds the order: the rules are written to `rules.mk` in the folder of the run, one for
each executed notebook and one for its validation. What changed by its content (parameters, code,
lock, data) is forced; a notebook newer than its executed copy runs again as make always does.
"""

import argparse
import graphlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from milr.companion import manifest, stage
from milr.companion.profiles import Run, add_arguments, load, resolve, run_of
from milr.files import hold, replace_text
from milr.paths import ROOT

STEPS = ("reproduce", "validate", "book")
SHORT = ("smoke", "quick")
REFERENCE = "data/reference/full.json"
# Two cores do the work of one notebook about 1.7 times as fast as one of them.
CHAIN = 0.6


def main(words: list[str] | None = None) -> int:
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
            refuse_absent(run.device)
    except ValueError as error:
        print(f"refused: {error}", file=sys.stderr)
        return 2
    busy = f"another run works in {_short(run.folder)}; waiting for it"
    with hold(run.folder / ".lock", busy):
        try:
            return _do(options.step, options.root, run, chosen)
        except stage.Refused as error:
            print(error, file=sys.stderr)
            return 1


def choose(root: Path, names: list[str]) -> list[Path]:
    """Return the notebooks of these names (all, if none) and those they need, in order.

    Raises ValueError for unknown names, and for notebooks that need each other.
    """
    known = {notebook.stem: notebook for notebook in manifest.notebooks(root)}
    wanted, order = list(names or known), graphlib.TopologicalSorter()
    for name in wanted:
        if name not in known:
            raise ValueError(f"there is no notebook {name!r}; there are {', '.join(known)}")
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


def refuse_absent(device: str) -> None:
    """Raise ValueError for a device that this machine lacks, before a page is made out of date."""
    if device not in ("auto", "cpu"):
        # Imported here: it brings torch, which takes seconds and which the others don't need.
        from milr.distributed import make_fabric

        make_fabric(device)


def rules(notebooks: list[Path], run: Run) -> str:
    """Return the make rules that execute and validate these notebooks, as seen from the run."""
    # Executions first: others wait for them, and validations fill the gaps.
    first = urgent(notebooks)
    order = [f"notebooks/{n.stem}{e}" for e in (".ipynb", ".valid") for n in first]
    lines = ["all: " + " ".join(order), "FORCE:"]
    for number, notebook in enumerate(notebooks, start=1):
        needed = [f"notebooks/{name}.ipynb" for name in manifest.needs(notebook)]
        # An executed needed notebook is compared by its time; everything else by its content.
        force = "FORCE" if manifest.stale(notebook, run) else ""
        target = f"notebooks/{notebook.stem}"
        position = f"[{number}/{len(notebooks)}]"
        lines += [
            f"{target}.ipynb: {_escaped(notebook)} {' '.join(needed)} {force}",
            f"\t@{_command('run', notebook, run, position)}",
            f"{target}.valid: {target}.ipynb",
            f"\t@{_command('validate', notebook, run, position)}",
        ]
    return "\n".join(lines) + "\n"


def urgent(notebooks: list[Path]) -> list[Path]:
    """Return the notebooks in the order to begin them in: by how long they and what waits for them
    take, the longest first; by their names where there is no reference run to say it.
    """
    lasts = _lasting(notebooks, _seconds(notebooks))
    return sorted(notebooks, key=lambda n: -lasts[n.stem])


def is_chain(notebooks: list[Path]) -> bool:
    """Return whether these notebooks mostly wait for each other, so that a second one at a time
    would find little to do: the longest chain takes more than `CHAIN` of all their time.
    """
    takes = _seconds(notebooks)
    return max(_lasting(notebooks, takes).values(), default=0) > CHAIN * sum(takes.values())


def _seconds(notebooks: list[Path]) -> dict[str, float]:
    """Return what each took in the reference run; 0 where that is unknown."""
    reference = notebooks[0].parent.parent / REFERENCE if notebooks else None
    kept = json.loads(reference.read_text())["chapters"] if reference and reference.exists() else {}
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


def _do(step: str, root: Path, run: Run, chosen: list[Path]) -> int:
    before = {notebook: manifest.read(manifest.executed(notebook, run)) for notebook in chosen}
    if step == "validate":
        for notebook in chosen:
            manifest.executed(notebook, run).with_suffix(".valid").unlink(missing_ok=True)
    if step != "book":
        code = _make(chosen, run)
        manifest.look_again()
        if code:
            print(table(chosen, run, before), file=sys.stderr)
            print("The book was not built.", file=sys.stderr)
            return code
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


def _make(chosen: list[Path], run: Run) -> int:
    (run.folder / "notebooks").mkdir(parents=True, exist_ok=True)
    replace_text(run.folder / "rules.mk", rules(chosen, run))
    asked = jobs(os.environ.get("MAKEFLAGS", ""), run.profile, is_chain(chosen))
    at_once = max(1, asked or len(chosen))
    # The jobserver of the make that called can't be reached from here: this one has its own.
    environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    keep_going = re.match(r"[a-zA-Z]*k[a-zA-Z]*(\s|$)", os.environ.get("MAKEFLAGS", ""))
    return subprocess.run(
        ["make", "-f", "rules.mk", "-s", f"-j{at_once}", *(["-k"] if keep_going else [])],
        cwd=run.folder,
        env={**environment, **threads(at_once), **({"TERM": "dumb"} if at_once > 1 else {})},
        stdout=subprocess.DEVNULL,
    ).returncode


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


def _command(module: str, notebook: Path, run: Run, position: str) -> str:
    words = [sys.executable, "-m", f"milr.companion.{module}", str(notebook), *run.arguments,
             "--position", position]  # fmt: skip
    return shlex.join(words).replace("$", "$$")


def _escaped(path: Path) -> str:
    return re.sub(r"([ #:])", r"\\\1", str(path)).replace("$", "$$")


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
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("Interrupted; the next run goes on from here.", file=sys.stderr)
        sys.exit(130)
