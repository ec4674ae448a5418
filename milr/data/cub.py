"""Photographs of birds: Caltech-UCSD Birds-200-2011, whole or in part, in its original layout.

Wah, Branson, Welinder, Perona, Belongie: The Caltech-UCSD Birds-200-2011 Dataset, technical
report CNS-TR-2011-001, California Institute of Technology, 2011.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image, ImageOps
from tqdm import tqdm

from milr import cache
from milr.data import cub_tables
from milr.data.cub_tables import TABLES, Annotations, folder_of, read
from milr.data.images import ImageSet, content_digest
from milr.paths import GET_CUB

SPLITS = ("train", "validation", "novel", "official-train", "official-test")
Window = tuple[float, float, float]


@dataclass(frozen=True)
class Report:
    """How much of the data set is there; species of the few-shot splits that have an image."""

    images_present: int
    images_absent: int
    species_present: int
    species_absent: int
    species_by_split: dict[str, int]

    def __str__(self) -> str:
        splits = ", ".join(f"{name} {count}" for name, count in self.species_by_split.items())
        listed = self.images_present + self.images_absent
        text = (
            f"{self.images_present:,} of {listed:,} photographs and {self.species_present} of "
            f"{self.species_present + self.species_absent} species are here ({splits})"
        )
        if self.images_absent:
            text += f"; {self.images_absent:,} rows of the annotations are skipped"
        return text


def split_of(species: int) -> str:
    """The few-shot split of a species, by its index (0 to 199) in classes.txt.

    Even ones train, those that leave 1 when divided by 4 validate, the others are novel: 100, 50
    and 50 species. It is the division of Chen, Liu, Kira, Wang, Huang: A Closer Look at Few-shot
    Classification, ICLR 2019. Any part of the data set keeps it, without species changing sides.
    """
    if species % 2 == 0:
        return "train"
    return "validation" if species % 4 == 1 else "novel"


def load(split: str, size: int = 84, root: Path | None = None, *, margin: float = 0.25) -> ImageSet:
    """The photographs of a split, each cut to a square around the bird; see `box_window`.

    split:  "train", "validation", "novel" (see `split_of`), "official-train", "official-test"
    size:   side of the images in pixels
    root:   folder that holds CUB_200_2011; the data root if None
    margin: how much larger than the longer side of the bounding box the square is

    Decoded once, then kept in the cache. Photographs that are absent are left out (`describe`
    counts them). Raises FileNotFoundError or ValueError, naming the file, if a table is missing
    or damaged, a photograph cannot be decoded or its box lies outside of it, and ValueError for
    another split, one of which no photograph is there, a size under 1 or a margin under 0.
    """
    if margin < 0:
        raise ValueError(f"margin is {margin}; give 0 (the box itself) or more")
    if split not in SPLITS:
        raise ValueError(f"no split {split!r}; give one of {', '.join(SPLITS)}")
    if size < 1:
        raise ValueError(f"size is {size} pixels; give 1 or more")
    notes, folder = read(root), folder_of(root)
    rows = np.flatnonzero(notes.present & _belongs(notes, split))
    if not len(rows):
        raise ValueError(f"no photograph of the split {split!r} is in {folder}. {GET_CUB}")
    kept = cache.cached(
        "cub",
        {"split": split, "size": size, "margin": margin, "pillow": PIL.__version__},
        lambda: _decode(notes, rows, folder, size, margin),
        sources=[__file__, cub_tables],
        data=_content(folder, notes, rows),
    )
    species = [int(s) for s in np.unique(notes.species[rows])]
    return ImageSet(
        images=kept["images"],
        targets=torch.from_numpy(np.searchsorted(species, notes.species[rows])),
        classes=tuple(notes.classes[s] for s in species),
        digest=kept["digest"],
        boxes=kept["boxes"],
        parts=kept["parts"],
        part_names=notes.part_names,
    )


def describe(root: Path | None = None) -> Report:
    """What of the data set is present and absent below `root` (the data root if None).

    Raises FileNotFoundError or ValueError, naming the file, if a table is missing or damaged.
    """
    notes = read(root)
    here = sorted(set(notes.species[notes.present].tolist()))
    by_split = {name: 0 for name in SPLITS[:3]}
    for species in here:
        by_split[split_of(species)] += 1
    return Report(
        images_present=int(notes.present.sum()),
        images_absent=int((~notes.present).sum()),
        species_present=len(here),
        species_absent=len(notes.classes) - len(here),
        species_by_split=by_split,
    )


def box_window(photo: tuple[int, int], box: np.ndarray, margin: float) -> Window:
    """Square (left, top, side) in pixels of a photograph (width, height) that holds the box.

    It is 1 + margin times as wide as the longer side of the box, or less where the photograph
    ends, and centred on the box unless it must shift to stay in the photograph. Only if the box is
    longer than the photograph's shorter side does the square reach beyond the photograph.
    """
    x, y, width, height = _clipped(box, photo)
    longer = max(width, height)
    side = max(longer, min(longer * (1 + margin), *photo))
    return (
        _start(x + width / 2, side, photo[0]),
        _start(y + height / 2, side, photo[1]),
        side,
    )


def _belongs(notes: Annotations, split: str) -> np.ndarray:
    if split == "official-train":
        return notes.official
    if split == "official-test":
        return ~notes.official
    return np.array([split_of(s) == split for s in notes.species])


def _decode(notes: Annotations, rows: np.ndarray, folder: Path, size: int, margin: float) -> dict:
    def one(row: int):
        photo = _open(folder / "images" / notes.names[row])
        box = _clipped(notes.boxes[row], photo.size)
        if not (box[2:] > 0).all():
            raise ValueError(
                f"{folder / 'bounding_boxes.txt'} has the bird of {notes.names[row]} at "
                f"{notes.boxes[row].tolist()}, outside of that photograph of {photo.width} x "
                f"{photo.height} pixels; one of the two is damaged: fetch them again. {GET_CUB}"
            )
        square = box_window(photo.size, notes.boxes[row], margin)
        image = torch.from_numpy(np.array(_cut(photo, square, size))).permute(2, 0, 1)
        return image, _move_box(box, square, size), _move_parts(notes.parts[row], square, size)

    # Threads suffice: PIL lets go of the interpreter while it decodes and resizes.
    with ThreadPoolExecutor() as pool:
        made = pool.map(one, rows)
        images, boxes, parts = zip(
            *tqdm(made, "CUB photographs", len(rows), leave=False), strict=True
        )
    images = torch.stack(images)
    boxes = torch.from_numpy(np.stack(boxes)).float()
    parts = torch.from_numpy(np.stack(parts)).float()
    digest = content_digest(images, boxes, parts, *notes.names[rows])
    return {"images": images, "boxes": boxes, "parts": parts, "digest": digest}


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as photo:
            return photo.convert("RGB")
    except (OSError, SyntaxError) as error:
        raise ValueError(
            f"{path} is not a whole JPEG ({error}). Remove it, so that its row is skipped like "
            f"that of an absent photograph, or fetch it again. {GET_CUB}"
        ) from error


def _cut(photo: Image.Image, window: Window, size: int) -> Image.Image:
    left, top, side = window
    beyond = max(-left, -top, left + side - photo.width, top + side - photo.height)
    if beyond > 0:
        # The photograph's mean colour: neutral for a network, and plainly not a part of a bird.
        border = int(np.ceil(beyond))
        mean = tuple(int(c) for c in np.asarray(photo).mean(axis=(0, 1)).round())
        photo = ImageOps.expand(photo, border, mean)
        left, top = left + border, top + border
    box = (left, top, left + side, top + side)
    return photo.resize((size, size), Image.Resampling.BICUBIC, box=box)


def _move_box(box: np.ndarray, window: Window, size: int) -> np.ndarray:
    left, top, side = window
    corners = np.array([box[:2], box[:2] + box[2:]]) - (left, top)
    corners = (corners * size / side).clip(0, size)
    return np.concatenate([corners[0], corners[1] - corners[0]])


def _move_parts(parts: np.ndarray, window: Window, size: int) -> np.ndarray:
    left, top, side = window
    places = (parts[:, :2] - (left, top)) * size / side
    visible = (parts[:, 2] > 0) & (places >= 0).all(axis=1) & (places < size).all(axis=1)
    return np.concatenate([np.where(visible[:, None], places, 0), visible[:, None]], axis=1)


def _clipped(box: np.ndarray, photo: tuple[int, int]) -> np.ndarray:
    """A few boxes of the data set end some pixels outside their photograph."""
    low = np.clip(box[:2], 0, photo)
    high = np.clip(box[:2] + box[2:], 0, photo)
    return np.concatenate([low, high - low])


def _start(centre: float, side: float, length: int) -> float:
    if side >= length:
        return (length - side) / 2
    return min(max(centre - side / 2, 0.0), length - side)


def _content(folder: Path, notes: Annotations, rows: np.ndarray) -> str:
    """Changes with any table and with the name or length of any photograph of `rows`."""
    total = hashlib.sha256()
    for name in TABLES:
        total.update((folder / name).read_bytes())
    for name in notes.names[rows]:
        total.update(f"{name} {(folder / 'images' / name).stat().st_size}\n".encode())
    return total.hexdigest()
