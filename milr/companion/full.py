"""Keep the numbers of a run as the reference: `python -m milr.companion.full`.

They go to `data/reference/full.json`: only numbers, with versions and device, and of each chapter
the commit and the seconds. The scorecard shows them beside the reader's own run. Of a run of some
chapters alone (`--only`) the others stay as they were kept. Numbers of the photographs, which few
readers have, go to a reference of their own, and a quick run of them is better than none.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from milr.companion import claims, manifest
from milr.companion.profiles import Run, add_arguments, run_of
from milr.companion.schedule import REFERENCE
from milr.companion.validate import is_valid
from milr.files import replace_text
from milr.paths import ROOT

PHOTOGRAPHS = "data/reference/photographs.json"
# By data set: the file, and the profiles that it may be made of, the best one last.
_PLACES = {"birds": (REFERENCE, ("full",)), "cub": (PHOTOGRAPHS, ("quick", "full"))}


def keep(run: Run, root: Path = ROOT, only: Sequence[str] = ()) -> Path:
    """Write the numbers of a run to the reference of its data set, and return the file.

    only: names of the chapters to keep; all if none is given. Raises ValueError for another
    profile, for chapters without up-to-date and validated results, for sources that are not
    committed, since the commit would not be what the numbers come from, for a quick run where a
    full one is kept, for chapters that were executed on different devices or with different
    versions, and for some chapters of a run that was made from another data set or seed, on another
    device or with other versions than the reference.
    """
    place, profiles = _PLACES[run.data]
    _refuse_other(run.profile, run.data, place)
    kept_before = load(root, run.data)
    if kept_before and profiles.index(kept_before["profile"]) > profiles.index(run.profile):
        raise ValueError(
            f"{place} is of a {kept_before['profile']} run, which is worth more than this one "
            f"({run.profile}); remove it first if it has to go"
        )
    shown = {REFERENCE, PHOTOGRAPHS}
    chapters = [path for path in manifest.notebooks(root) if not shown & {*manifest.reads(path)}]
    if unknown := set(only) - {path.stem for path in chapters}:
        raise ValueError(
            f"no numbers of {', '.join(sorted(unknown))} are kept; those of "
            f"{', '.join(path.stem for path in chapters)} are"
        )
    chosen = [path for path in chapters if not only or path.stem in only]
    if missing := [f"{path.stem}: {why}" for path in chosen if (why := _lacks(path, run))]:
        told = _asked(run.data, run.profile)
        raise ValueError("; ".join(missing) + f"; run `make reproduce {told}` first")
    read = {name for path in chosen for name in manifest.reads(path)}
    if changed := _git(root, "status", "--porcelain", "milr", "notebooks", "*.lock", *sorted(read)):
        raise ValueError(f"not committed: {changed.split()[1]}; commit, then keep the numbers")
    made = {
        "profile": run.profile,
        "data": run.data,
        "seed": run.seed,
    } | _machine(chosen, run)
    before = kept_before if only else {}
    if other := [
        f"{k}: {before[k]}, now {made[k]}" for k in made if before and before[k] != made[k]
    ]:
        raise ValueError(
            f"the reference was made otherwise ({'; '.join(other)}); keep all chapters of one run, "
            f"or remove {place} and keep these"
        )
    commit = _git(root, "describe", "--always", "--exclude=*")
    kept = before.get("chapters", {}) | {path.stem: _chapter(path, run, commit) for path in chosen}
    ordered = {path.stem: kept[path.stem] for path in chapters if path.stem in kept}
    content = made | {"chapters": ordered}
    replace_text(root / place, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return root / place


def load(root: Path = ROOT, data: str = "birds") -> dict:
    """Return the reference of a data set, or an empty dict if there is none.

    Raises ValueError for one that was made of a run of another profile, as a smoke run, and for a
    damaged file.
    """
    place, _ = _PLACES[data]
    if not (root / place).exists():
        return {}
    try:
        content = json.loads((root / place).read_text())
    except ValueError as error:
        raise ValueError(
            f"{place} is damaged ({error}); bring it back with `git checkout {place}`"
        ) from error
    _refuse_other(content.get("profile"), data, place)
    return content


def _refuse_other(profile: str | None, data: str, place: str) -> None:
    _, profiles = _PLACES[data]
    if profile not in profiles:
        raise ValueError(
            f"{place} is made of a {' or '.join(profiles)} run, and given is one of profile "
            f"{profile}; run `make reproduce {_asked(data, profiles[-1])}` and keep it with "
            f"`make keep {_asked(data, profiles[-1])}`"
        )


def _asked(data: str, profile: str) -> str:
    """What to give to make for a run of this profile."""
    return f"PROFILE={profile}" + (f" DATA={data}" if data != "birds" else "")


def evidence(reference: dict) -> claims.Evidence:
    """Return the numbers of a reference as evidence; there is none in an empty one."""
    chapters = reference.get("chapters", {})
    values = [claims.numbers(chapter["values"]) for chapter in chapters.values()]
    merged = {key: one for chapter in values for key, one in chapter.items()}
    return claims.Evidence(merged, frozenset(name[:2] for name in chapters))


def _chapter(notebook: Path, run: Run, commit: str) -> dict:
    recorded = json.loads(_results(notebook, run).read_text())["values"]
    kept = {key: recorded[key] for key in claims.numbers(recorded)}
    seconds = manifest.read(manifest.executed(notebook, run))["seconds"]
    return {"commit": commit, "seconds": seconds, "values": kept}


def _lacks(notebook: Path, run: Run) -> str:
    if reason := manifest.stale(notebook, run):
        return reason
    if not is_valid(manifest.executed(notebook, run)):
        return "it was not validated"
    return "" if _results(notebook, run).exists() else "it recorded nothing"


def _results(notebook: Path, run: Run) -> Path:
    return run.folder / "results" / f"{notebook.stem}.json"


def _machine(chapters: Sequence[Path], run: Run) -> dict:
    """What computed the chapters, as they noted it: this may be another machine."""
    found = {n.stem: json.loads(_results(n, run).read_text())["machine"] for n in chapters}
    first, *others = found
    if other := [name for name in others if found[name] != found[first]]:
        raise ValueError(
            f"{first} was executed with {found[first]}, {other[0]} with {found[other[0]]}; run "
            "them on one machine"
        )
    return found[first]


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words],
            # The commit of a repository around a checkout that has none of its own says nothing.
            env=os.environ | {"GIT_CEILING_DIRECTORIES": str(root.parent)},
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise ValueError(
            f"numbers are kept with the commit that made them, and git does not tell it: {error}"
        ) from error
    return done.stdout.rstrip()


def main(words: list[str] | None = None) -> int:
    """The command line; returns its exit status, 1 if the numbers are not to be kept."""
    parser = argparse.ArgumentParser(prog="python -m milr.companion.full", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--only", nargs="*", default=[], help="names of chapters; default: all")
    parser.set_defaults(profile="full")
    options = parser.parse_args(words)
    try:
        path = keep(run_of(options), only=options.only)
    except ValueError as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    print(f"kept in {path.relative_to(ROOT)}; commit it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
