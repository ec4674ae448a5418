"""The tables of CUB-200-2011 in their original layout: one text file each, a row per image."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from milr.paths import CUB, GET_CUB, data_root

TABLES = (
    "images.txt",
    "classes.txt",
    "image_class_labels.txt",
    "train_test_split.txt",
    "bounding_boxes.txt",
    "parts/parts.txt",
    "parts/part_locs.txt",
)
_FINITE = (np.isfinite, "finite numbers are due")
# What the numbers of a row must be beside finite, and how an error says it.
RULES = {
    "image_class_labels.txt": (lambda species: species % 1 == 0, "a whole number is due"),
    "train_test_split.txt": (lambda official: np.isin(official, (0, 1)), "0 or 1 is due"),
    "bounding_boxes.txt": (lambda box: box[:, 2:] > 0, "a width and a height above 0 are due"),
}


@dataclass(frozen=True, eq=False)
class Annotations:
    """The tables of the data set, a row for each photograph that they list.

    names:      (n,) file names below images/
    present:    (n,) bool, the file is there
    species:    (n,) int, index into `classes` (0 to 199)
    official:   (n,) bool, belongs to the official training set
    boxes:      (n, 4) x, y, width, height in pixels of the photograph
    parts:      (n, P, 3) x, y, visible, likewise
    classes, part_names: in the order of the files
    """

    names: np.ndarray
    present: np.ndarray
    species: np.ndarray
    official: np.ndarray
    boxes: np.ndarray
    parts: np.ndarray
    classes: tuple[str, ...]
    part_names: tuple[str, ...]


def folder_of(root: Path | None) -> Path:
    """CUB_200_2011 below `root`, or below the data root if None."""
    return (data_root() if root is None else Path(root)) / CUB


def read(root: Path | None = None) -> Annotations:
    """The annotations below `root` (the data root if None).

    Raises FileNotFoundError or ValueError, naming the file, if a table is missing, damaged (it
    says what cannot be, such as a box without an area), or does not fit the others.
    """
    folder = folder_of(root)
    ids, names = _words(folder, "images.txt")
    part_names = _words(folder, "parts/parts.txt")[1].tolist()
    parts = _numbers(folder, "parts/part_locs.txt", 4, np.repeat(ids, len(part_names)))
    species = _numbers(folder, "image_class_labels.txt", 1, ids)[:, 0].astype(int)
    classes = _words(folder, "classes.txt")[1].tolist()
    if not 1 <= species.min() <= species.max() <= len(classes):
        raise ValueError(
            f"{folder / 'classes.txt'} has {len(classes)} species, but images are of number "
            f"{species.max()}; the file is damaged. {GET_CUB}"
        )
    official = _numbers(folder, "train_test_split.txt", 1, ids)
    here = {
        f"{species.name}/{photo.name}"
        for species in _photograph_folders(folder)
        for photo in species.iterdir()
    }
    return Annotations(
        names=names,
        present=np.array([name in here for name in names]),
        species=species - 1,
        official=official[:, 0] == 1,
        boxes=_numbers(folder, "bounding_boxes.txt", 4, ids),
        parts=parts[:, 1:].reshape(len(ids), len(part_names), 3),
        classes=tuple(_species_name(name) for name in classes),
        part_names=tuple(part_names),
    )


def _words(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and names of a table of two columns; a name may hold blanks ("left eye")."""
    rows = [line.split(maxsplit=1) for line in _text(folder, name).splitlines() if line.strip()]
    for number, row in enumerate(rows, start=1):
        if len(row) != 2 or not row[0].isdigit():
            raise ValueError(
                f"row {number} of {folder / name} is {' '.join(row)!r}, not a number and a name; "
                f"the file is damaged. {GET_CUB}"
            )
    return np.array([int(i) for i, _ in rows]), np.array([text.strip() for _, text in rows])


def _numbers(folder: Path, name: str, columns: int, ids: np.ndarray) -> np.ndarray:
    """(len(ids), columns) of a table whose first column must be `ids`; its `RULES` hold."""
    lines = _text(folder, name).splitlines()
    try:
        table = np.loadtxt(lines, ndmin=2)
    except ValueError as error:
        raise ValueError(f"{folder / name} is damaged: {error}. {GET_CUB}") from error
    if table.shape[1] != columns + 1 or not np.array_equal(table[:, 0], ids):
        raise ValueError(
            f"{folder / name} has {table.shape[0]} rows of {table.shape[1]} numbers where "
            f"{len(ids)} rows of {columns + 1} are due, or does not number its images as "
            f"images.txt does; the file is damaged or of another data set. {GET_CUB}"
        )
    table = table[:, 1:]
    for holds, due in (_FINITE, RULES.get(name, _FINITE)):
        wrong = ~holds(table).all(axis=1)
        if wrong.any():
            row = int(wrong.argmax())
            found = " ".join(f"{value:.12g}" for value in table[row])
            raise ValueError(
                f"row {row + 1} of {folder / name} says {found} where {due}; the file is damaged. "
                f"{GET_CUB}"
            )
    return table


def _text(folder: Path, name: str) -> str:
    if not (folder / name).is_file():
        raise FileNotFoundError(f"{folder / name} is missing. {GET_CUB}")
    try:
        return (folder / name).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{folder / name} is damaged: {error}. {GET_CUB}") from error


def _photograph_folders(folder: Path) -> list[Path]:
    if not (folder / "images").is_dir():
        raise FileNotFoundError(f"the folder {folder / 'images'} is missing. {GET_CUB}")
    return [entry for entry in (folder / "images").iterdir() if entry.is_dir()]


def _species_name(name: str) -> str:
    return name.partition(".")[2].replace("_", " ")
