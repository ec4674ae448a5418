"""Unpack an archive from elsewhere: nothing outside its folder, and whole or not at all."""

import gzip
import itertools
import posixpath
import shutil
import tarfile
import zlib
from collections.abc import Set
from pathlib import Path

from tqdm import tqdm

# Python before 3.11.4 has no filters; `refusal` alone stands at the door there. It refuses what
# goes through a link, since links that each look harmless can lead outside together.
_FILTER = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
_REFUSED = getattr(tarfile, "FilterError", ())


class UnpackError(Exception):
    """The archive is damaged or not to be trusted; the message says why and what to do."""


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack from a tar archive, compressed or not, the folder that is called as `folder` is.

    It is unpacked under another name beside `folder` and renamed at the end, so that `folder` is
    whole if it is there; what else the archive holds is dropped. Raises UnpackError if the archive
    is damaged, lacks the folder, or has a member whose path leaves it or goes through a link, a
    link out of it or through another, or a device. Nothing is left behind then.
    """
    forget(folder)
    place = _place(folder)
    try:
        _extract(archive, place)
        if not (place / folder.name).is_dir():
            raise UnpackError(f"{archive} holds no folder {folder.name}; is it the right file?")
        (place / folder.name).rename(folder)
    finally:
        forget(folder)
    return folder


def forget(folder: Path) -> None:
    """Remove what an unpacking of `folder` that was killed has left."""
    shutil.rmtree(_place(folder), ignore_errors=True)


def refusal(member: tarfile.TarInfo, links: Set[str] = frozenset()) -> str | None:
    """Why a member must not be unpacked, or None if it may.

    links: plain paths of the symbolic links before it.
    """
    if _leaves(member.name):
        return "its path leaves the archive"
    if _passes(member.name, links):
        return "its path goes through a link"
    if member.issym() and _turns_back(member.linkname):
        return f"it links to {member.linkname}, which goes back from a name that may be a link"
    if member.islnk() and _passes(member.linkname, links):
        return f"it links to {member.linkname}, through another link"
    if member.issym() and _leaves(posixpath.join(posixpath.dirname(member.name), member.linkname)):
        return f"it links to {member.linkname}, outside the archive"
    if member.islnk() and _leaves(member.linkname):
        return f"it links to {member.linkname}, outside the archive"
    if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
        return "it is neither file, folder nor link"
    return None


def _extract(archive: Path, place: Path) -> None:
    try:
        with tarfile.open(archive) as tar, tqdm(desc=f"unpack {archive.name}", unit="file") as bar:
            links: set[str] = set()
            for member in tar:
                if reason := refusal(member, links):
                    raise UnpackError(
                        f"{archive} is not to be trusted: {member.name!r} in it is refused, "
                        f"because {reason}. Remove it and fetch it from its own page"
                    )
                if member.issym():
                    links.add(posixpath.normpath(member.name))
                tar.extract(member, place, **_FILTER)
                bar.update()
    except _REFUSED as error:
        raise UnpackError(f"{archive} is not to be trusted: {error}") from error
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UnpackError(
            f"{archive} is damaged ({error}). Remove it, and fetch it again"
        ) from error
    except OSError as error:
        raise UnpackError(
            f"{archive} could not be unpacked ({error}). It is kept; where the disk is "
            "full, make room; run this again"
        ) from error


def _place(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.unpacking")


def _leaves(path: str) -> bool:
    """Whether a path of an archive is absolute or, made plain, starts above the archive."""
    plain = posixpath.normpath(path)
    return posixpath.isabs(path) or plain == ".." or plain.startswith("../") or "\\" in path


def _passes(path: str, links: Set[str]) -> bool:
    """Whether a path is one of these links, or lies behind one."""
    names = posixpath.normpath(path).split("/")
    return any("/".join(names[:count]) in links for count in range(1, len(names) + 1))


def _turns_back(path: str) -> bool:
    """Whether a path goes up again after a name."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    return any(name != ".." and later == ".." for name, later in itertools.pairwise(names))
