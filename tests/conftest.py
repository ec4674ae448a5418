"""Made-up copies of the photographs, and an environment as a person has it."""

import hashlib
import os

import numpy as np
import pytest
from torch import nn
from torchvision import datasets


@pytest.fixture(autouse=True)
def nothing_around(monkeypatch):
    """What a test starts is not part of the `make test`, or of the hook of git, that may have
    started the tests.
    """
    for name in [name for name in os.environ if "MAKE" in name or name.startswith("GIT_")]:
        monkeypatch.delenv(name)


class TokensFirst(nn.Module):
    """Tokens (N, B, C), as torch's own transformers take them."""

    def __init__(self):
        super().__init__()
        self.tokens, self.z = nn.Linear(3, 4), nn.Identity()

    def forward(self, x):
        return self.z(self.tokens(x.transpose(0, 1)).mean(0))


@pytest.fixture
def tokens_first():
    """A model of images (B, N, 3) whose layer "tokens" gives (N, B, 4)."""
    return TokensFirst().eval()


@pytest.fixture(scope="session")
def write_cub():
    """The function that writes such a copy: see `_write_cub`."""
    return _write_cub


@pytest.fixture(scope="session")
def write_stl10():
    """The function that writes a copy of STL-10: see `_write_stl10`."""
    return _write_stl10


def _write_stl10(root, patch, train, test):
    """Write noise in the binary layout of STL-10 below `root`; return the pixels (n, 3, 96, 96).

    train, test: labels from 1 of the pictures, in their order; patch: what sets attributes, so that
    torchvision knows the files
    """
    folder = root / datasets.STL10.base_folder
    folder.mkdir(parents=True)
    count = len(train) + len(test)
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, 96, 96), np.uint8)
    # The files hold columns first.
    columns = pixels.transpose(0, 1, 3, 2)
    first, last = columns[: len(train)], columns[len(train) :]

    def put(name, content):
        (folder / name).write_bytes(content)
        return [name, hashlib.md5(content).hexdigest()]

    unlabelled = put("unlabeled_X.bin", last.tobytes())
    known = [put("train_X.bin", first.tobytes()), put("train_y.bin", bytes(train)), unlabelled]
    patch.setattr(datasets.STL10, "train_list", known)
    known = [put("test_X.bin", last.tobytes()), put("test_y.bin", bytes(test))]
    patch.setattr(datasets.STL10, "test_list", known)
    return pixels


def _write_cub(root, species, count, part_names, bird):
    """Write `count` photographs of each species in the layout of CUB-200-2011; return `root`.

    species: as classes.txt has them ("001.Black_Ani"); files are called 0.jpg, 1.jpg, ...
    bird:    (place of the species, number of the photograph) -> the photograph (None: it is only
             listed), its box, and (x, y, visible) of each part
    """
    folder = root / "CUB_200_2011"
    listed = [(kind, number) for kind in range(len(species)) for number in range(count)]
    names = [f"{species[kind]}/{number}.jpg" for kind, number in listed]
    photos, boxes, parts = zip(*(bird(*one) for one in listed), strict=True)
    for name, photo in zip(names, photos, strict=True):
        if photo is not None:
            (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            photo.save(folder / "images" / name, quality=98, subsampling=0)
    _write(folder / "images.txt", enumerate(names, 1))
    _write(folder / "classes.txt", enumerate(species, 1))
    _write(folder / "image_class_labels.txt", enumerate((kind + 1 for kind, _ in listed), 1))
    _write(folder / "train_test_split.txt", enumerate(((n + 1) % 2 for _, n in listed), 1))
    _write(folder / "bounding_boxes.txt", ((i, *map(float, box)) for i, box in enumerate(boxes, 1)))
    _write(folder / "parts/parts.txt", enumerate(part_names, 1))
    located = [(i, j, *p) for i, row in enumerate(parts, 1) for j, p in enumerate(row, 1)]
    _write(folder / "parts/part_locs.txt", located)
    return root


def _write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(" ".join(map(str, row)) + "\n" for row in rows))
