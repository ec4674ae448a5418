"""Digits: those that are always there, and MNIST's files, whole, in part and damaged."""

import gzip

import numpy as np
import pytest
import torch

from milr.data import digits


def idx(magic, array):
    header = np.array([magic, *array.shape], dtype=">u4").tobytes()
    return gzip.compress(header + array.astype(np.uint8).tobytes())


def write(root, part, count=10):
    folder = root / "mnist"
    folder.mkdir(exist_ok=True)
    images = np.arange(count * 28 * 28).reshape(count, 28, 28) % 251
    (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(2051, images))
    (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(2049, np.arange(count) % 10))
    return images


def test_embedded_digits_are_split_once_and_for_all():
    learn, test = digits.embedded()
    assert learn.images.shape[1:] == (1, 8, 8) and len(learn) + len(test) == 1797
    assert learn.images.max() == 255 and set(test.targets.tolist()) == set(range(10))
    assert digits.embedded()[1].digest == test.digest
    assert digits.embedded(seed=1)[1].digest != test.digest


def test_mnist_with_all_files_keeps_its_own_split(tmp_path):
    images = write(tmp_path, "t10k")
    write(tmp_path, "train", count=20)
    learn, test = digits.mnist(tmp_path)
    assert (len(learn), len(test)) == (20, 10)
    assert np.array_equal(test.images[:, 0].numpy(), images)
    assert test.targets.tolist() == list(range(10))


def test_mnist_with_the_test_digits_alone_is_split(tmp_path):
    write(tmp_path, "t10k")
    learn, test = digits.mnist(tmp_path)
    assert (len(learn), len(test)) == (6, 4) and digits.has_mnist(tmp_path)
    assert sorted([*learn.targets.tolist(), *test.targets.tolist()]) == list(range(10))


def test_absent_mnist_is_said_with_what_to_do(tmp_path):
    assert not digits.has_mnist(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"python -m milr.data.download mnist"):
        digits.mnist(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"no gzip",
        gzip.compress(b"short"),
        idx(2049, np.zeros((10, 28, 28))),
        idx(2051, np.zeros((10, 28, 28)))[:-20],
        gzip.compress(np.array([2051, 10, 28, 28], dtype=">u4").tobytes() + b"few"),
    ],
    ids=["no archive", "no header", "wrong kind", "cut off", "too few bytes"],
)
def test_damaged_files_are_named(tmp_path, content):
    write(tmp_path, "t10k")
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte.gz .*remove it"):
        digits.mnist(tmp_path)


def test_images_and_labels_must_belong_together(tmp_path):
    write(tmp_path, "t10k")
    labels = idx(2049, np.zeros(9))
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(labels)
    with pytest.raises(ValueError, match="10 t10k images and 9 labels"):
        digits.mnist(tmp_path)


def test_pixels_go_from_paper_to_ink():
    found = digits.pixels(torch.tensor([0, 51, 255], dtype=torch.uint8))
    assert torch.allclose(found, torch.tensor([0.0, 0.2, 1.0]))
