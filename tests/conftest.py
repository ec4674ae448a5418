"""A made-up copy of the photographs, for the tests of the data set and of the chapters on it."""

import pytest


@pytest.fixture(scope="session")
def write_cub():
    """The function that writes such a copy: see `_write_cub`."""
    return _write_cub


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
