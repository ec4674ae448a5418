from urllib.parse import urlparse

import pytest
import yaml
from torchvision.datasets import MNIST, STL10

from milr.data import sources

READ = sources.read()
GOOD = {"address": "https://a.org/b", "name": "b", "digest": "md5:" + "0" * 32}


@pytest.mark.parametrize("name", READ)
def test_every_entry_says_what_it_is_whose_and_where_from(name):
    source = READ[name]
    assert len(source.citation) > 20 and len(source.licence) > 5
    if source.kind == "download":
        assert all(urlparse(file.address).hostname for file in source.files)
        assert source.space > 0


def test_all_sets_of_the_book_are_listed():
    assert set(READ) >= {"birds", "cub", "mnist", "stl10", "banknote", "iris", "digits"}


def test_digests_agree_with_those_that_torchvision_knows():
    known = dict(MNIST.resources)
    assert {f.name: f.digest for f in READ["mnist"].files} == {
        name: f"md5:{digest}" for name, digest in known.items()
    }
    assert READ["stl10"].files[0].digest == f"md5:{STL10.tgz_md5}"
    assert READ["stl10"].files[0].address == STL10.url


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "rumour"}, "kind 'rumour'; give one of embedded, download"),
        ({"licence": None}, "lacks licence"),
        ({"sise": 3}, "sise, which a download set has not"),
        ({"files": [{"name": "b"}]}, "address, name and digest"),
        ({"files": [{**GOOD, "digest": "md5:12"}]}, "32 or sha256"),
        ({"files": [{**GOOD, "address": "b"}]}, "the address is 'b'"),
        ({"files": [{**GOOD, "name": "../b"}]}, "must not name a folder"),
        ({"unpack": True, "files": [GOOD, GOOD]}, "give one archive"),
    ],
)
def test_a_wrong_entry_is_refused_by_name(tmp_path, change, message):
    entry = {
        "title": "Birds",
        "kind": "download",
        "licence": "none",
        "citation": "none",
        "folder": "birds",
        "space": 1,
        "files": [GOOD],
    }
    path = tmp_path / "sources.yml"
    path.write_text(yaml.safe_dump({"birds": entry}))
    assert sources.read(path)["birds"].files[0].name == "b"
    path.write_text(yaml.safe_dump({"birds": {**entry, **change}}))
    with pytest.raises(ValueError, match=message) as error:
        sources.read(path)
    assert "birds" in str(error.value)
