"""Fetch a data set: `python -m milr.data.download cub`. Safe to interrupt, and to start again."""

import argparse
import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from milr.data.sources import Source, read
from milr.data.unpack import UnpackError, forget, unpack
from milr.files import hold
from milr.paths import data_root

ATTEMPTS = 5
WAIT = 2.0  # seconds before the second attempt, and twice as long before each later one
TIMEOUT = 30  # seconds without an answer or without a byte
BUSY = (429, 500, 502, 503, 504)  # answers of a server that may do better a little later
CHUNK = 1 << 14  # bytes: of a transfer that breaks off, so many at most are lost


class DownloadError(Exception):
    """Could not be fetched; the message says why and what to do."""


def get(source: Source, root: Path | None = None) -> Path:
    """Fetch (and unpack) a data set below `root` (the data root if None); return its folder.

    What is there already is not fetched again. Raises DownloadError or UnpackError.
    """
    root = data_root() if root is None else root
    folder = root / source.folder
    if source.unpack and folder.is_symlink() and not folder.exists():
        raise DownloadError(
            f"{folder} is a link to {folder.readlink()}, which is not there: bring that back, or "
            "remove the link"
        )
    if source.unpack and _is_there(folder):
        print(f"{folder} is there already; move it away if it should be fetched again")
        return folder
    place = root if source.unpack else folder
    if not source.unpack and all(
        _is_whole(folder / file.name, file.digest) for file in source.files
    ):
        print(f"{folder} is there already, and whole")
        return folder
    with _alone(folder):
        return _get(source, folder, place)


def _get(source: Source, folder: Path, place: Path) -> Path:
    if source.unpack and _is_there(folder):
        return folder  # the one that had it in hand has fetched it
    place.mkdir(parents=True, exist_ok=True)
    files = [place / file.name for file in source.files]
    if source.unpack:
        forget(folder)
    kept = sum(_size(file) + _size(_beside(file, ".part")) for file in files)
    check_space(place, max(0, source.space - kept))
    for file in source.files:
        fetch(file.address, place / file.name, file.digest)
    if source.unpack:
        archive = place / source.files[0].name
        unpack(archive, folder)
        archive.unlink()  # its content lies beside it now, and it is as large again
    print(f"{source.title} is in {folder}\nLicence: {source.licence}\nCite: {source.citation}")
    return folder


def fetch(address: str, target: Path, digest: str, attempts: int = ATTEMPTS) -> Path:
    """Fetch a file to `target`, which appears only when whole and of this digest.

    address: http or https
    digest:  "md5:..." or "sha256:...", hexadecimal
    attempts: how many may fail in turn; one that came further than all before begins the count anew

    What arrives is kept in `target`.part, and a later call goes on from there. So does this one
    from something of another digest whose length the server didn't tell: it may have broken off.
    Raises DownloadError if MILR_OFFLINE is set, if the server can't be reached, refuses, breaks off
    again and again, sends less from the start than is kept (a page with a message, say), or
    something of another digest (which is then set aside as `target`.wrong), and if the disk refuses
    what arrives. Two that fetch the same file take turns.
    """
    # Before the lock: what is there already may lie where nobody may write.
    if _is_whole(target, digest):
        return target
    if os.environ.get("MILR_OFFLINE"):
        raise DownloadError(
            f"{target} is not there whole, and MILR_OFFLINE says not to ask for {address}"
        )
    with _alone(target):
        return _fetch(address, target, digest, attempts)


def _fetch(address: str, target: Path, digest: str, attempts: int) -> Path:
    if target.exists():
        if _digest(target, digest) == digest:
            return target
        _set_aside(target, target, f"{target}, which was there,", digest)
    part = _beside(target, ".part")
    failures, best = 0, _size(part)
    # Looked at before the server is asked: not each one tells that there is no more to come.
    done = _is_whole(part, digest)
    while not done:
        try:
            done = _receive(address, part) or _is_whole(part, digest) or _size(part) <= best
            if not done:
                raise requests.ConnectionError("it ends, and has not told its length")
        except (requests.ConnectionError, requests.Timeout) as error:
            # A server without ranges begins anew each time, and may never come further.
            failures = 1 if _size(part) > best else failures + 1
            best = max(best, _size(part))
            if failures >= attempts:
                raise DownloadError(
                    f"{address} does not answer or breaks off ({error}). {_size(part):,} bytes "
                    f"are kept in {part}; run this again later, and it goes on from there"
                ) from error
            time.sleep(WAIT * 2 ** (failures - 1))
        except requests.RequestException as error:
            raise DownloadError(f"{address} could not be asked for: {error}") from error
        except OSError as error:
            raise DownloadError(
                f"{part} could not be written ({error}). {_size(part):,} bytes are kept; where "
                "the disk is full, make room; run this again, and it goes on from there"
            ) from error
    if _digest(part, digest) != digest:
        _set_aside(part, target, f"What came from {address}", digest)
    part.rename(target)
    _version_of(part).unlink(missing_ok=True)
    return target


def check_space(folder: Path, needed: int) -> None:
    """Raise DownloadError unless `needed` bytes are free where `folder` lies."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DownloadError(
            f"{folder} has {free / 1e9:.2f} GB free and {needed / 1e9:.2f} GB are needed; "
            "free some, or let MILR_DATA name a folder on another disk"
        )


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Wait until no other process fetches this, or else both would add to one file."""
    # The lock stays: one that is taken away while others wait for it would let two in at once.
    lock = target.with_name(f".{target.name}.lock")
    with hold(lock, f"{target} is being fetched by another process; waiting for it"):
        yield


def _receive(address: str, part: Path) -> bool:
    """Append to `part` what it lacks, or write it anew if the server will not go on from there.

    False if the server may have more of the file: it didn't tell the length of what it sent.
    """
    had = _size(part)
    headers = {"Accept-Encoding": "identity"}
    if had:
        headers["Range"] = f"bytes={had}-"
        if _version_of(part).exists():
            # The server then sends the rest only if the file is still the same one.
            headers["If-Range"] = _version_of(part).read_text()
    with _ask(address, headers) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            told = re.fullmatch(r"bytes \*/(\d+)", answer.headers.get("Content-Range", ""))
            length = int(told[1]) if told else had
            if length < had:
                part.unlink(missing_ok=True)
                raise requests.ConnectionError("what was kept is longer than the file")
            if length > had:
                raise requests.ConnectionError("it refuses the rest of the file")
            return True  # whether `part` is right, its digest tells
        if answer.status_code in BUSY:
            raise requests.ConnectionError(f"it answers {answer.status_code} {answer.reason}")
        if not answer.ok:
            raise DownloadError(
                f"{address} answers {answer.status_code} {answer.reason}. Try again later, or get "
                f"the file by other means, put it in {part.parent} as {part.stem}, and run this "
                "again"
            )
        if answer.status_code != requests.codes.partial_content:
            length = _length(answer)
            if had and length is not None and length < had:
                # A page with a message, say, which must not take the place of what came before.
                raise requests.ConnectionError(
                    f"it sends {length:,} bytes from the start on, fewer than are kept"
                )
            return _write(answer, part, 0)
        if not answer.headers.get("Content-Range", "").startswith(f"bytes {had}-"):
            part.unlink(missing_ok=True)
            raise requests.ConnectionError("it sends another range than was asked for")
        return _write(answer, part, had)


def _ask(address: str, headers: dict[str, str]) -> requests.Response:
    try:
        return requests.get(address, headers=headers, stream=True, timeout=TIMEOUT)
    except requests.RequestException:
        raise
    except OSError as error:  # of the certificates that a setting names, say
        raise DownloadError(f"{address} could not be asked for: {error}") from error


def _length(answer: requests.Response) -> int | None:
    told = answer.headers.get("Content-Length", "")
    return int(told) if told.isdecimal() else None


def _write(answer: requests.Response, part: Path, start: int) -> bool:
    length = _length(answer)
    if length is not None:
        check_space(part.parent, length)
    version = answer.headers.get("ETag", "W/")
    if version.startswith("W/"):  # a weak one does not promise the same bytes
        version = answer.headers.get("Last-Modified", "")
    if version:
        _version_of(part).write_text(version)
    else:
        _version_of(part).unlink(missing_ok=True)
    total = None if length is None else start + length
    with (
        part.open("ab" if start else "wb") as file,
        tqdm(desc=part.stem, total=total, initial=start, unit="B", unit_scale=True) as progress,
    ):
        try:
            # Raw: an archive that the server calls an encoding, too, stays the archive that it is.
            for chunk in answer.raw.stream(CHUNK, decode_content=False):
                file.write(chunk)
                progress.update(len(chunk))
        except HTTPError as error:
            raise requests.ConnectionError(error) from error
    return length is not None or "Transfer-Encoding" in answer.headers


def _set_aside(file: Path, target: Path, what: str, digest: str) -> None:
    aside = _beside(target, ".wrong")
    found = _digest(file, digest)
    file.replace(aside)
    _version_of(_beside(target, ".part")).unlink(missing_ok=True)
    raise DownloadError(
        f"{what} has the digest {found}, not {digest}. It is set aside as {aside}. Run this again "
        "to fetch it anew; if what comes is wrong again, look into that file (it may be a web page "
        "with a message), and compare the address with the data set's own page"
    )


def _digest(path: Path, like: str) -> str:
    kind = like.partition(":")[0]
    with path.open("rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"


def _is_whole(path: Path, digest: str) -> bool:
    return path.exists() and _digest(path, digest) == digest


def _is_there(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _version_of(part: Path) -> Path:
    """Beside a part: what the server called the version of the file that it sent."""
    return _beside(part, ".version")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns its exit status."""
    sources = {name: source for name, source in read().items() if source.kind == "download"}
    parser = argparse.ArgumentParser(prog="python -m milr.data.download", description=__doc__)
    parser.add_argument("name", choices=sources, help="data set, as in data/sources.yml")
    source = sources[parser.parse_args(arguments).name]
    try:
        get(source)
    except (DownloadError, UnpackError) as error:
        print(f"{source.title}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{source.title}: {error}; MILR_DATA names the folder to write to", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; run this again and it goes on from there", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
