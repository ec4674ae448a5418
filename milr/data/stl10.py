"""STL-10: small photographs of ten kinds of things, for the patent's case of a classifier.

Coates, Lee, Ng: An Analysis of Single-Layer Networks in Unsupervised Feature Learning, 2011.
The data set itself is read by torchvision. A folder of sample pictures with coarse masks of their
objects serves to look at; it is far too small to learn from.
"""

import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from torchvision import datasets

from milr.data.images import ImageSet, content_digest
from milr.paths import data_root

FOLDER = datasets.STL10.base_folder
SAMPLE = "stl10_sample"
SIZE = 96  # pixels, of the originals
CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
SPLITS = ("train", "test")
OBJECT = ("background", "object")
GET = (
    "get it with `python -m milr.data.download stl10` (2.6 GB, unpacked below the data root), "
    "or let MILR_DATA name the folder that holds it"
)


def load(split: str, size: int = SIZE, root: Path | None = None) -> ImageSet:
    """The photographs of a split, by torchvision: "train" (5,000) or "test" (8,000).

    size: side of the images in pixels (the originals have 96)
    root: folder that holds stl10_binary; the data root if None

    torchvision compares all files with their digests first, which takes some seconds. Raises
    ValueError for another split, FileNotFoundError if the folder is not there, and RuntimeError if
    torchvision finds a file absent or damaged.
    """
    _check_split(split)
    root = data_root() if root is None else root
    if not is_here(root):
        raise FileNotFoundError(f"{root / FOLDER} is not there; {GET}")
    try:
        found = datasets.STL10(root, split)
    except RuntimeError as error:
        wanted = [name for name, _ in datasets.STL10.train_list + datasets.STL10.test_list]
        absent = [name for name in wanted if not (root / FOLDER / name).is_file()]
        wrong = f"it lacks {', '.join(absent)}" if absent else "a file in it is damaged"
        message = f"{root / FOLDER} is not whole ({wrong}); remove it, and {GET}"
        raise RuntimeError(message) from error
    # torchvision turns the pictures by a view of other strides.
    images = torch.from_numpy(np.ascontiguousarray(found.data))
    targets = torch.from_numpy(found.labels.astype(np.int64))
    return ImageSet(
        images=_resized(images, size),
        targets=targets,
        classes=CLASSES,
        digest=content_digest("stl10", split, str(size), images, targets),
    )


def is_here(root: Path | None = None) -> bool:
    """Whether the data set's folder is below `root` (the data root if None)."""
    return ((data_root() if root is None else root) / FOLDER).is_dir()


def has_sample(root: Path | None = None) -> bool:
    """Whether the folder of sample pictures is below `root` (the data root if None)."""
    return (_sample_folder(root) / "labels.csv").is_file()


def load_sample(split: str, size: int = SIZE, root: Path | None = None) -> ImageSet:
    """The sample's pictures of a split ("train" or "test"), with `labels`: 1 on the objects.

    The masks are coarse, and are brought to `size` by the nearest pixel. Raises ValueError for
    another split, and FileNotFoundError naming what is absent.
    """
    _check_split(split)
    folder = _sample_folder(root)
    if not (folder / "labels.csv").is_file():
        raise FileNotFoundError(
            f"{folder / 'labels.csv'} is not there; let MILR_DATA name the folder that holds "
            f"{SAMPLE}. The whole data set needs no sample: `milr.data.stl10.load`"
        )
    with (folder / "labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    names = [f"{int(row['index0']):04d}_{row['class']}.png" for row in rows]
    images = torch.stack([_picture(folder / split / name, "RGB") for name in names])
    masks = torch.stack([_picture(folder / f"{split}_masks" / name, "L") for name in names])
    objects = (masks > 0).to(torch.uint8)
    if size != SIZE:
        objects = functional.interpolate(objects, (size, size), mode="nearest-exact")
    return ImageSet(
        images=_resized(images, size),
        targets=torch.tensor([CLASSES.index(row["class"]) for row in rows]),
        classes=CLASSES,
        digest=content_digest("stl10 sample", split, str(size), images, masks),
        labels=objects[:, 0],
        part_names=OBJECT,
    )


def _sample_folder(root: Path | None) -> Path:
    return (data_root() if root is None else root) / SAMPLE


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"no split {split!r}; give one of {', '.join(SPLITS)}")


def _picture(path: Path, mode: str) -> torch.Tensor:
    """(3 or 1, h, w) uint8."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there, though the sample's labels.csv names it; copy {SAMPLE} anew"
        )
    with Image.open(path) as picture:
        pixels = np.array(picture.convert(mode))
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)


def _resized(images: torch.Tensor, size: int) -> torch.Tensor:
    if images.shape[-1] == size:
        return images
    small = functional.interpolate(
        images.float(), (size, size), mode="bilinear", antialias=True, align_corners=False
    )
    return small.round().clamp(0, 255).to(torch.uint8)
