"""Handwritten digits: scikit-learn's 8 x 8 ones, which are always there, or MNIST's 28 x 28.

Images are (n, 1, H, W), grey, white ink on black; else an `ImageSet` as those of birds.

MNIST: LeCun, Bottou, Bengio, Haffner: Gradient-based Learning Applied to Document Recognition,
1998. Its files are read as they are fetched, compressed; a data root that has the 10,000 test
digits alone serves too.
"""

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

from milr.data.images import ImageSet, content_digest
from milr.paths import data_root

CLASSES = tuple("0123456789")
FOLDER = "mnist"
LEARN, TEST = "train", "t10k"
KINDS = {"images": (2051, 3), "labels": (2049, 1)}  # magic number, dimensions
TEST_SHARE = 0.4
GET = (
    "get it with `python -m milr.data.download mnist` (12 MB, below the data root), or let "
    "MILR_DATA name the folder that holds it"
)


def embedded(seed: int = 0) -> tuple[ImageSet, ImageSet]:
    """scikit-learn's 1,797 digits of 8 x 8 pixels: to learn from, and two fifths to test with."""
    raw = load_digits()
    grey = np.rint(raw.images * (255 / 16)).astype(np.uint8)
    return _split(_image_set("digits", grey, raw.target), seed)


def mnist(root: Path | None = None, seed: int = 0) -> tuple[ImageSet, ImageSet]:
    """MNIST's digits of 28 x 28 pixels: to learn from, and to test with.

    root: folder that holds mnist/; the data root if None. The official split if all files are
    there. With the test files alone, two fifths of those to test with, the rest to learn from.
    Raises FileNotFoundError if not even those are there, and ValueError, naming it, for a file
    that is no such data.
    """
    folder = (data_root() if root is None else root) / FOLDER
    if not _has(folder, TEST):
        raise FileNotFoundError(f"{folder} lacks {TEST}-images or {TEST}-labels; {GET}")
    test = _image_set("mnist test", *_pair(folder, TEST))
    if not _has(folder, LEARN):
        return _split(test, seed)
    return _image_set("mnist train", *_pair(folder, LEARN)), test


def has_mnist(root: Path | None = None) -> bool:
    """Whether MNIST's test digits, at least, are below `root` (the data root if None)."""
    return _has((data_root() if root is None else root) / FOLDER, TEST)


def pixels(images: torch.Tensor) -> torch.Tensor:
    """Images (n, 1, H, W) of uint8 as float32 between 0 (paper) and 1 (ink)."""
    return images.float() / 255


def _file(folder: Path, part: str, kind: str) -> Path:
    return folder / f"{part}-{kind}-idx{KINDS[kind][1]}-ubyte.gz"


def _has(folder: Path, part: str) -> bool:
    return all(_file(folder, part, kind).is_file() for kind in KINDS)


def _pair(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    images, labels = (_read(_file(folder, part, kind), *KINDS[kind]) for kind in KINDS)
    if len(images) != len(labels):
        raise ValueError(
            f"{folder} has {len(images)} {part} images and {len(labels)} labels; get both files "
            "anew, from one place"
        )
    return images, labels


def _read(path: Path, magic: int, dimensions: int) -> np.ndarray:
    """The array of an idx file: a magic number, the lengths, then bytes."""
    try:
        with gzip.open(path) as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it, and {GET}") from error
    start = 4 * (1 + dimensions)
    whole = content.ljust(start, b"\0")
    header, values = np.frombuffer(whole[:start], ">u4"), np.frombuffer(whole[start:], np.uint8)
    if header[0] != magic or header[1:].prod() != len(values):
        raise ValueError(f"{path} is no idx file of this kind; remove it, and {GET}")
    return values.reshape(header[1:])


def _image_set(name: str, grey: np.ndarray, labels: np.ndarray) -> ImageSet:
    images = torch.from_numpy(np.array(grey))[:, None]
    targets = torch.from_numpy(labels.astype(np.int64))
    return ImageSet(images, targets, CLASSES, content_digest(name, images, targets))


def _split(whole: ImageSet, seed: int) -> tuple[ImageSet, ImageSet]:
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(seed))
    test = round(TEST_SHARE * len(whole))
    return whole.subset(order[test:].sort().values), whole.subset(order[:test].sort().values)
