"""Where the data sets come from: `data/sources.yml`, read and checked."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from milr.paths import ROOT

SOURCES = ROOT / "data" / "sources.yml"
DIGEST_LENGTHS = {"md5": 32, "sha256": 64}
ALWAYS = {"title", "kind", "licence", "citation"}
NEEDED = {"embedded": ALWAYS | {"made_by"}, "download": ALWAYS | {"folder", "space", "files"}}
OPTIONAL = {"embedded": set(), "download": {"unpack"}}


@dataclass(frozen=True)
class File:
    """A file to fetch: address, name on the disk, digest as "md5:..." or "sha256:..."."""

    address: str
    name: str
    digest: str


@dataclass(frozen=True)
class Source:
    """A data set. Embedded ones have `made_by`; the others the fields after it.

    space:  bytes of disk needed while fetching and unpacking
    unpack: its one file is an archive that holds `folder`; otherwise the files lie in `folder`
    """

    name: str
    title: str
    kind: str
    licence: str
    citation: str
    made_by: str = ""
    folder: str = ""
    space: int = 0
    files: tuple[File, ...] = ()
    unpack: bool = False


def read(path: Path = SOURCES) -> dict[str, Source]:
    """All sources by name; raises ValueError naming the entry and what is wrong with it."""
    entries = yaml.safe_load(path.read_text())
    return {name: _source(name, entry, path) for name, entry in entries.items()}


def _source(name: str, entry: dict, path: Path) -> Source:
    where = f"{path.name}: {name}"
    kind = entry.get("kind")
    if kind not in NEEDED:
        raise ValueError(f"{where} has kind {kind!r}; give one of {', '.join(NEEDED)}")
    if absent := NEEDED[kind] - {key for key, value in entry.items() if value}:
        raise ValueError(f"{where} lacks {', '.join(sorted(absent))}")
    if unknown := set(entry) - NEEDED[kind] - OPTIONAL[kind]:
        raise ValueError(f"{where} has {', '.join(sorted(unknown))}, which a {kind} set has not")
    files = tuple(_file(where, given) for given in entry.get("files", ()))
    if entry.get("unpack") and len(files) != 1:
        raise ValueError(f"{where} is to be unpacked and has {len(files)} files; give one archive")
    return Source(**{**entry, "name": name, "files": files})


def _file(where: str, given: dict) -> File:
    if set(given) != {"address", "name", "digest"}:
        raise ValueError(f"{where}: a file has {sorted(given)}; give address, name and digest")
    kind, _, value = given["digest"].partition(":")
    if len(value) != DIGEST_LENGTHS.get(kind) or not set(value) <= set("0123456789abcdef"):
        raise ValueError(
            f"{where}: the digest is {given['digest']!r}; give md5: and 32 or sha256: and 64 "
            "hexadecimal digits"
        )
    if not given["address"].startswith(("https://", "http://")):
        raise ValueError(f"{where}: the address is {given['address']!r}; give http(s)://...")
    if Path(given["name"]).name != given["name"]:
        raise ValueError(f"{where}: the file name {given['name']!r} must not name a folder")
    return File(**given)
