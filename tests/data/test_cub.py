"""On a small made-up copy of the layout always; on the photographs where they are there."""

import numpy as np
import pytest
import torch
from PIL import Image

from milr.data import cub, cub_tables
from milr.paths import CUB, ROOT, data_root

BOX = (60, 30, 50, 40)
BEAK = (100, 50)
SPECIES = ("001.Black_Ani", "002.Red_Auklet", "003.Blue_Bunting", "004.Grey_Cuckoo")


def paint(width=200, height=120):
    """A red box, as the tables have it, with a small blue beak around its point."""
    photo = np.full((height, width, 3), 90, np.uint8)
    x, y, w, h = BOX
    photo[y : y + h, x : x + w] = (250, 0, 0)
    photo[BEAK[1] - 3 : BEAK[1] + 3, BEAK[0] - 3 : BEAK[0] + 3] = (0, 0, 250)
    return Image.fromarray(photo)


def bird(species, number):
    """The same photograph for all, but the third of each species is absent."""
    return None if number == 2 else paint(), BOX, [(*BEAK, 1), (0.0, 0.0, 0)]


@pytest.fixture
def root(tmp_path, monkeypatch, write_cub):
    """Four species with three rows each."""
    monkeypatch.setenv("MILR_CACHE", str(tmp_path / "cache"))
    return write_cub(tmp_path / "data", SPECIES, 3, ("beak", "left eye"), bird)


def test_rows_without_a_photograph_are_skipped_and_counted(root):
    report = cub.describe(root)
    assert (report.images_present, report.images_absent) == (8, 4)
    assert (report.species_present, report.species_absent) == (4, 0)
    assert report.species_by_split == {"train": 2, "validation": 1, "novel": 1}
    assert "8 of 12 photographs" in str(report) and "4 rows" in str(report)


def test_a_species_without_any_photograph_counts_as_absent(root):
    for path in (root / "CUB_200_2011/images" / SPECIES[1]).iterdir():
        path.unlink()
    assert cub.describe(root).species_absent == 1
    with pytest.raises(ValueError, match="no photograph of the split 'validation'"):
        cub.load("validation", root=root)


def test_few_shot_splits_share_no_species(root):
    loaded = {split: cub.load(split, 32, root) for split in ("train", "validation", "novel")}
    assert loaded["train"].classes == ("Black Ani", "Blue Bunting")
    assert loaded["validation"].classes == ("Red Auklet",)
    assert loaded["novel"].classes == ("Grey Cuckoo",)
    assert loaded["train"].targets.tolist() == [0, 0, 1, 1]


def test_the_whole_data_set_splits_into_100_50_and_50_species():
    splits = [cub.split_of(species) for species in range(200)]
    assert [splits.count(name) for name in ("train", "validation", "novel")] == [100, 50, 50]


def test_the_official_split_is_read(root):
    assert len(cub.load("official-train", 16, root)) == 4
    assert len(cub.load("official-test", 16, root)) == 4


def test_boxes_and_parts_move_with_the_pixels(root):
    """What is red is the box, and blue is around the beak, in the cut image too."""
    birds = cub.load("novel", 96, root)
    image = birds.images[0].float()
    x, y, w, h = birds.boxes[0].tolist()
    centres = torch.arange(96) + 0.5
    column, row = centres[None, :], centres[:, None]
    inside = (column > x + 2) & (column < x + w - 2) & (row > y + 2) & (row < y + h - 2)
    outside = (column < x - 2) | (column > x + w + 2) | (row < y - 2) | (row > y + h + 2)
    blue = (image[2] > 150) & (image[0] < 100)
    red = (image[0] > 180) & (image[2] < 80)
    assert outside.any() and not (red & outside).any()
    assert (red | blue)[inside].float().mean() > 0.9
    beak_x, beak_y, visible = birds.parts[0, 0].tolist()
    assert visible == 1
    assert (column.expand_as(blue)[blue].mean() - beak_x).abs() < 0.7
    assert (row.expand_as(blue)[blue].mean() - beak_y).abs() < 0.7
    assert birds.parts[0, 1].tolist() == [0, 0, 0]
    assert repr(birds.part_names) == repr(("beak", "left eye"))  # plain words, not numpy ones


def test_the_margin_is_the_share_by_which_the_square_exceeds_the_box(root):
    widths = [cub.load("novel", 100, root, margin=m).boxes[0, 2].item() for m in (0, 0.25, 1)]
    assert widths == pytest.approx([100, 80, 50], abs=1e-4)


@pytest.mark.parametrize(
    ("photo", "box", "expected"),
    [
        ((200, 100), (100, 40, 20, 10), (97.5, 32.5, 25)),  # centred
        ((200, 100), (0, 0, 20, 20), (0, 0, 25)),  # shifted into the photograph
        ((200, 100), (180, 80, 20, 20), (175, 75, 25)),
        ((200, 100), (10, 0, 90, 50), (5, 0, 100)),  # less margin: the photograph ends
        ((200, 100), (20, 10, 150, 60), (20, -25, 150)),  # beyond it: the box is longer
        ((200, 100), (150, 40, 80, 20), (137.5, 18.75, 62.5)),  # a box that leaves it
    ],
)
def test_the_square_stays_in_the_photograph_where_it_can(photo, box, expected):
    window = cub.box_window(photo, np.array(box, float), 0.25)
    assert window == pytest.approx(expected)


def test_a_square_beyond_the_photograph_is_filled_with_its_mean_colour():
    photo = Image.fromarray(np.full((50, 100, 3), (10, 200, 30), np.uint8))
    cut = np.asarray(cub._cut(photo, (0.0, -25.0, 100.0), 40))
    assert (cut == (10, 200, 30)).all()


def test_a_part_outside_the_square_is_not_visible():
    window = (50.0, 0.0, 100.0)
    parts = np.array([[60, 20, 1], [20, 20, 1], [60, 20, 0]], float)
    moved = cub._move_parts(parts, window, 50)
    assert moved.tolist() == [[5, 10, 1], [0, 0, 0], [0, 0, 0]]


def test_a_second_load_decodes_nothing(root, monkeypatch):
    first = cub.load("novel", 32, root)
    monkeypatch.setattr(cub, "_decode", lambda *a: pytest.fail("decoded again"))
    again = cub.load("novel", 32, root)
    assert torch.equal(first.images, again.images) and first.digest == again.digest


def test_a_photograph_that_changes_is_decoded_again(root):
    first = cub.load("novel", 32, root)
    Image.new("RGB", (200, 120)).save(root / "CUB_200_2011/images" / SPECIES[3] / "0.jpg")
    again = cub.load("novel", 32, root)
    assert first.digest != again.digest


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("image_class_labels.txt", "7 3", "7 1"), ("classes.txt", "001.Black_Ani", "001.Black_Anis")],
)
def test_another_species_or_name_of_one_is_another_key(root, name, old, new):
    """The photographs stay as they are; what is learned from them does not."""
    first = cub.load("train", 16, root)
    path = root / "CUB_200_2011" / name
    path.write_text(path.read_text().replace(old, new))
    again = cub.load("train", 16, root)
    assert torch.equal(first.images, again.images) and first.key != again.key


@pytest.mark.parametrize("name", cub_tables.TABLES)
def test_a_missing_table_is_named_with_what_to_do(root, name):
    (root / "CUB_200_2011" / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing.*make data-cub.*MILR_DATA"):
        cub.load("train", root=root)


@pytest.mark.parametrize("name", cub_tables.TABLES)
def test_a_table_cut_short_is_named(root, name):
    path = root / "CUB_200_2011" / name
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-2]) + "\n")
    with pytest.raises(ValueError, match="damaged"):
        cub.load("train", root=root)


@pytest.mark.parametrize("name", cub_tables.TABLES)
def test_a_table_with_a_broken_row_is_named(root, name):
    path = root / "CUB_200_2011" / name
    path.write_text("1\n" + path.read_text())
    with pytest.raises(ValueError, match=f"{name}.* damaged"):
        cub.load("train", root=root)


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("bounding_boxes.txt", "2 60 30 0 0", "60 30 0 0 where a width and a height above 0"),
        ("bounding_boxes.txt", "2 60 30 50 -40", "a width and a height above 0 are due"),
        ("bounding_boxes.txt", "2 nan 30 50 40", "nan 30 50 40 where finite numbers are due"),
        ("bounding_boxes.txt", "2 60 30 inf 40", "finite numbers are due"),
        ("image_class_labels.txt", "2 1.7", "1.7 where a whole number is due"),
        ("image_class_labels.txt", "2 nan", "finite numbers are due"),
        ("train_test_split.txt", "2 91", "91 where 0 or 1 is due"),
    ],
)
def test_a_row_that_cannot_be_is_named(root, name, row, said):
    path = root / "CUB_200_2011" / name
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], row, *lines[2:]]))
    with pytest.raises(ValueError, match=f"row 2 of .*{name} says .*{said}.*make data-cub"):
        cub.load("train", root=root)


@pytest.mark.parametrize("name", cub_tables.TABLES)
def test_a_table_of_other_letters_is_named(root, name):
    path = root / "CUB_200_2011" / name
    path.write_bytes(path.read_bytes() + "1 Dürer".encode("latin-1"))
    with pytest.raises(ValueError, match=f"^[^ ]*{name} is damaged: 'utf-8' codec.*make data-cub"):
        cub.load("train", root=root)


def test_a_box_outside_of_its_photograph_is_named(root):
    path = root / "CUB_200_2011" / "bounding_boxes.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(["1 600 300 50 40", *lines[1:]]))
    with pytest.raises(ValueError, match=r"Ani/0\.jpg at \[600.*outside of .* 200 x 120 pixels"):
        cub.load("train", root=root)


def test_no_data_at_all_is_said_with_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="make data-cub"):
        cub.describe(tmp_path)


def test_a_truncated_photograph_is_named_with_what_to_do(root):
    path = root / "CUB_200_2011/images" / SPECIES[3] / "0.jpg"
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(ValueError, match="0.jpg is not a whole JPEG.*Remove it"):
        cub.load("novel", root=root)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="0.jpg is not a whole JPEG"):
        cub.load("novel", root=root)


def test_a_grey_photograph_becomes_three_equal_channels(root):
    path = root / "CUB_200_2011/images" / SPECIES[3] / "0.jpg"
    paint().convert("L").save(path)
    image = cub.load("novel", 32, root).images[0]
    assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "test"}, "no split 'test'; give one of train, validation, novel"),
        ({"split": "train", "size": 0}, "size is 0"),
        ({"split": "train", "margin": -1}, "margin is -1"),
    ],
)
def test_wrong_arguments_are_refused(root, arguments, message):
    with pytest.raises(ValueError, match=message):
        cub.load(**arguments, root=root)


@pytest.fixture
def real():
    for candidate in (data_root(), ROOT.parent / "shared" / "data"):
        if (candidate / CUB).is_dir():
            return candidate
    pytest.skip("the CUB photographs are not here: `make data-cub`, or set MILR_DATA")


def test_the_real_tables_are_read_whole(real):
    notes = cub_tables.read(real)
    assert notes.boxes.shape == (11788, 4) and notes.parts.shape == (11788, 15, 3)
    assert len(notes.classes) == 200 and notes.part_names[6] == "left eye"
    assert notes.official.sum() == 5994
    report = cub.describe(real)
    assert report.images_present + report.images_absent == 11788
    assert report.images_present > 0


def test_real_parts_lie_in_the_boxes_of_real_birds(real, tmp_path, monkeypatch):
    monkeypatch.setenv("MILR_CACHE", str(tmp_path))
    birds = cub.load("novel", 32, real)
    assert birds.images.shape[1:] == (3, 32, 32)
    assert len(birds.classes) == len(birds.targets.unique())
    x, y, w, h = birds.boxes[:, None].unbind(-1)
    part_x, part_y, visible = birds.parts.unbind(-1)
    inside = (part_x >= x - 1) & (part_x <= x + w + 1) & (part_y >= y - 1) & (part_y <= y + h + 1)
    assert inside[visible > 0].float().mean() > 0.99
    assert torch.maximum(w, h).min() > 32 / 1.26 - 1
