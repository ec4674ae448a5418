"""What a notebook is run with: the profile's numbers, checked against its parameters cell."""

import argparse
import ast
import dataclasses
import json
from pathlib import Path

from milr.files import read_yaml
from milr.paths import build_root

PROFILES = ("smoke", "quick", "full", "paper")
DATA = ("birds", "cub")
DEVICES = ("auto", "cpu", "cuda", "mps")
SEEDS = 2**31  # half of what scikit-learn takes: chapters count on from it


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of the book: what all its notebooks have in common."""

    data: str = "birds"
    profile: str = "quick"
    seed: int = 0
    device: str = "auto"

    @property
    def folder(self) -> Path:
        """Where all that this run makes lies, below the build folder."""
        return build_root() / f"{self.data}-{self.profile}-{self.seed}"

    @property
    def arguments(self) -> list[str]:
        """The command line that means this run."""
        pairs = dataclasses.asdict(self).items()
        return [word for name, value in pairs for word in (f"--{name}", str(value))]


def add_arguments(parser) -> None:
    """Add the options that make a `Run` to an argument parser."""
    parser.add_argument("--data", choices=DATA, default=Run.data)
    parser.add_argument("--profile", choices=PROFILES, default=Run.profile)
    parser.add_argument("--seed", type=_seed, default=Run.seed)
    parser.add_argument("--device", choices=DEVICES, default=Run.device)


def run_of(options) -> Run:
    """Return the `Run` that parsed options mean."""
    return Run(options.data, options.profile, options.seed, options.device)


def read_notebook(path: Path) -> dict:
    """Return what a notebook holds.

    Raises ValueError, naming the file, if it is no JSON, as after a merge that had a conflict.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(
            f"{path.name} is no notebook that can be read ({error}); mend the file, or let git "
            "restore it"
        ) from error


def declared(notebook: Path) -> dict[str, object]:
    """Return the defaults in the parameters cell of a notebook, by name.

    Raises ValueError if the notebook can't be read, if there is no cell tagged `parameters`, or if
    it holds anything else than assignments of plain values.
    """
    for cell in read_notebook(notebook)["cells"]:
        if "parameters" in cell["metadata"].get("tags", ()):
            break
    else:
        raise ValueError(f"{notebook.name} has no cell tagged 'parameters'")
    defaults = {}
    for statement in ast.parse("".join(cell["source"])).body:
        try:
            (target,) = statement.targets
            defaults[target.id] = ast.literal_eval(statement.value)
        except (AttributeError, ValueError):
            raise ValueError(
                f"{notebook.name}, parameters cell, line {statement.lineno}: "
                "only assignments like `steps = 100` may stand there"
            ) from None
    return defaults


def resolve(notebook: Path, run: Run, extra: dict | None = None) -> dict[str, object]:
    """Return the parameters a notebook is run with, all checked.

    The later wins: `common`, the notebook's own section, what either has under the name of the
    data set, then `extra`, and last data, profile, seed and device of the run. What stands under
    `common` goes to the notebooks that declare it.

    Raises ValueError for parameters that the notebook does not declare or that have another type.
    """
    known = declared(notebook)
    sections = load(notebook.parent, run.profile)
    common = _of_data(sections.get("common"), run.data)
    given = {name: value for name, value in common.items() if name in known}
    given |= _of_data(sections.get(notebook.stem), run.data)
    given |= extra or {}
    given |= dataclasses.asdict(run)
    _check(notebook.name, given, known)
    return given


def load(folder: Path, profile: str) -> dict:
    """Return the sections of a profile of the notebooks in `folder`.

    Raises ValueError if the file can't be read, or one of them is no mapping or belongs to no
    notebook there.
    """
    path = folder / "profiles" / f"{profile}.yml"
    sections = read_yaml(path) or {}
    notebooks = sorted(file.stem for file in folder.glob("*.ipynb"))
    strange = [name for name in sections if name not in ("common", *notebooks)]
    if strange:
        raise ValueError(
            f"profiles/{path.name} has a section {strange[0]!r}; "
            f"allowed are common, {', '.join(notebooks)}"
        )
    for name, section in sections.items():
        if not isinstance(section, dict | None):
            raise ValueError(
                f"profiles/{path.name}: {name} is {section!r}; give parameters and their values"
            )
    return sections


def _seed(word: str) -> int:
    if not (word.isdecimal() and int(word) < SEEDS):
        raise argparse.ArgumentTypeError(
            f"{word!r} is no seed; give a whole number from 0 to {SEEDS - 1}"
        )
    return int(word)


def _of_data(section: dict | None, data: str) -> dict:
    section = section or {}
    plain = {name: value for name, value in section.items() if name not in DATA}
    return plain | (section.get(data) or {})


def _check(name: str, given: dict, known: dict) -> None:
    for key, value in given.items():
        if key not in known:
            raise ValueError(f"{name} has no parameter {key!r}; it has {', '.join(sorted(known))}")
        if not _fits(value, known[key]):
            raise ValueError(
                f"{name}: parameter {key} is of type {type(known[key]).__name__} "
                f"(default {known[key]!r}), and cannot be {value!r}"
            )


def _fits(value: object, default: object) -> bool:
    if default is None or type(value) is type(default):
        return True
    if isinstance(default, tuple):
        return isinstance(value, list)  # YAML has no tuples
    return type(default) is float and type(value) is int
