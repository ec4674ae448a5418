"""Which files of the data root make a chapter stale, and which do not."""

import pytest

from milr.companion import manifest
from milr.companion.profiles import Run


@pytest.fixture
def photographs(checkout, monkeypatch):
    """(data root, function that says the digest anew); the photographs lie on another disk."""
    root, disk = checkout.root / "data", checkout.root / "disk"
    monkeypatch.setenv("MILR_DATA", str(root))
    (root / "CUB_200_2011").mkdir(parents=True)
    (root / "CUB_200_2011" / "images.txt").write_text("1 a.jpg\n")
    (disk / "001.Ani").mkdir(parents=True)
    (disk / "001.Ani" / "a.jpg").write_text("a bird")
    (root / "CUB_200_2011" / "images").symlink_to(disk)

    def digest():
        manifest.look_again()
        return manifest.data_digest(checkout.first, Run(profile="quick", data="cub"))

    return root, digest


def test_a_photograph_behind_a_link_counts(photographs):
    root, digest = photographs
    before = digest()
    (root / "CUB_200_2011" / "images" / "001.Ani" / "a.jpg").write_text("another bird")
    assert digest() != before


def test_a_link_that_leads_back_comes_to_an_end(photographs):
    root, digest = photographs
    before = digest()
    (root / "CUB_200_2011" / "images" / "back").symlink_to(root / "CUB_200_2011")
    assert digest() == before


@pytest.mark.parametrize(
    "name",
    [
        "CUB_200_2011/.DS_Store",
        "CUB_200_2011/images/.thumbnails/a.jpg",
        "CUB_200_2011/images/002.Auk/b.jpg.part",
        "cub_embeddings/a.npy",
        "CUB_200_2011_old/images.txt",
    ],
)
def test_what_is_no_photograph_does_not_count(photographs, name):
    root, digest = photographs
    before = digest()
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("clutter")
    assert digest() == before != ""


def test_without_photographs_there_is_no_digest(checkout, monkeypatch):
    monkeypatch.setenv("MILR_DATA", str(checkout.root / "nowhere"))
    manifest.look_again()
    assert manifest.data_digest(checkout.first, Run(data="cub")) == ""
