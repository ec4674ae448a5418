"""STL-10 on a tiny made-up copy of the archive always; on the sample pictures where they are."""

import numpy as np
import pytest
import torch
from PIL import Image

from milr.data import stl10
from milr.paths import data_root


@pytest.fixture
def root(tmp_path, monkeypatch, write_stl10):
    """Four pictures to train on and two to test with, in the original's binary layout."""
    return tmp_path, torch.from_numpy(write_stl10(tmp_path, monkeypatch, [1, 2, 10, 1], [3, 4]))


def test_pictures_stand_upright_and_labels_count_from_0(root):
    found = stl10.load("train", root=root[0])
    assert found.images.equal(root[1][:4])
    assert found.targets.tolist() == [0, 1, 9, 0]
    assert [found.classes[i] for i in (0, 9)] == ["airplane", "truck"]
    assert stl10.load("test", root=root[0]).targets.tolist() == [2, 3]


def test_another_size_is_a_smaller_picture_of_the_same(root):
    found = stl10.load("test", 32, root[0])
    assert found.images.shape == (2, 3, 32, 32)
    assert abs(found.images.float().mean() - root[1][4:].float().mean()) < 2
    assert found.digest != stl10.load("test", root=root[0]).digest


def test_what_is_absent_is_named_with_what_to_do(root, tmp_path):
    assert stl10.is_here(root[0]) and not stl10.is_here(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"nowhere.*milr\.data\.download stl10"):
        stl10.load("train", root=tmp_path / "nowhere")
    (root[0] / "stl10_binary/train_y.bin").unlink()
    with pytest.raises(RuntimeError, match=r"lacks train_y\.bin.*remove it"):
        stl10.load("train", root=root[0])


def test_a_damaged_file_is_refused(root):
    (root[0] / "stl10_binary/test_y.bin").write_bytes(bytes([1, 1]))
    with pytest.raises(RuntimeError, match="damaged"):
        stl10.load("test", root=root[0])


def test_another_split_is_refused_with_those_that_there_are(root):
    with pytest.raises(ValueError, match="'validation'; give one of train, test"):
        stl10.load("validation", root=root[0])


@pytest.fixture
def sample(tmp_path):
    """Two pictures to train on, one to test with; an object in the upper left quarter."""
    folder = tmp_path / "stl10_sample"
    rows = [("train", 7, "bird"), ("train", 20, "ship"), ("test", 546, "cat")]
    lines = ["split,index0,label1to10,class,objects,mask_fraction"]
    for value, (split, index, kind) in enumerate(rows):
        lines.append(f"{split},{index},1,{kind},,0.25")
        for part, picture in (("", np.full((96, 96, 3), 40 * value)), ("_masks", quarter())):
            path = folder / f"{split}{part}" / f"{index:04d}_{kind}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture.astype(np.uint8)).save(path)
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def quarter():
    mask = np.zeros((96, 96))
    mask[:48, :48] = 255
    return mask


@pytest.mark.parametrize("size", [96, 48])
def test_a_sample_has_its_pictures_classes_and_objects(sample, size):
    found = stl10.load_sample("train", size, sample)
    assert [found.classes[i] for i in found.targets.tolist()] == ["bird", "ship"]
    assert found.images.float().mean((1, 2, 3)).tolist() == [0, 40]
    assert found.part_names[1] == "object"
    assert found.labels.shape == (2, size, size)
    assert found.labels[0, : size // 2, : size // 2].all()
    assert int(found.labels[0].sum()) == size * size // 4


def test_the_same_pictures_of_another_class_have_another_key(sample):
    first = stl10.load_sample("test", root=sample)
    folder = sample / "stl10_sample"
    for part in ("test", "test_masks"):
        (folder / part / "0546_cat.png").rename(folder / part / "0546_dog.png")
    path = folder / "labels.csv"
    path.write_text(path.read_text().replace("cat", "dog"))
    again = stl10.load_sample("test", root=sample)
    assert torch.equal(first.images, again.images) and first.key != again.key


def test_an_absent_sample_or_picture_is_named(sample, tmp_path):
    assert stl10.has_sample(sample) and not stl10.has_sample(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"labels\.csv is not there.*MILR_DATA"):
        stl10.load_sample("train", root=tmp_path / "nowhere")
    (sample / "stl10_sample/test_masks/0546_cat.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"0546_cat\.png.*copy stl10_sample anew"):
        stl10.load_sample("test", root=sample)


@pytest.mark.skipif(not stl10.has_sample(), reason=f"no STL-10 sample in {data_root()}")
def test_the_real_sample_is_read():
    found = stl10.load_sample("test")
    assert len(found) == 10 and len(set(found.targets.tolist())) == 10
    share = found.labels.float().mean((1, 2))
    assert ((share > 0.05) & (share < 0.95)).all()
