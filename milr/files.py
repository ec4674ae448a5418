"""Files that are written whole or not at all, and locks that die with their holder."""

import contextlib
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

# Endings of what a download or a write has not finished, or of locks: no file of a data set.
UNFINISHED = (".part", ".version", ".wrong", ".lock")


def replace_file(path: Path, fill: Callable, *, durable: bool = True) -> None:
    """Write a file whole or not at all: `fill(file)` writes to a temporary, then it is renamed.

    That holds for a process that is killed; with `durable` for a machine that fails, too, which
    takes waiting for the disk. Raises OSError if the disk refuses it; the former file, if any, is
    then still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of this process alone: two that write the same file must not take each other's away.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            try:
                fill(file)
            except RuntimeError as error:
                # torch's zip writer reports a refused write as a RuntimeError of its own.
                raise OSError(f"writing {path.name} failed: {error}") from error
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if not durable:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def replace_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a text file whole or not at all, as `replace_file` does.

    Raises OSError if the disk refuses it.
    """
    replace_file(path, lambda file: file.write(text.encode()), durable=durable)


def files_below(folder: Path, *patterns: str) -> list[Path]:
    """Return the files below a folder that match one of the patterns (all, if none), sorted.

    Folders may be links to elsewhere. None whose name, or that of a folder on the way, begins with
    a dot: an editor's locks, which may be links to nowhere, its copies, and what a system leaves.
    """
    seen, files = set(), []
    for here, below, names in os.walk(folder, followlinks=True):
        place = os.path.realpath(here)
        if place in seen:  # a link that leads back, or there again
            below.clear()
            continue
        seen.add(place)
        below[:] = sorted(name for name in below if name[0] != ".")
        files += [Path(here, name) for name in names if name[0] != "."]
    wanted = patterns or ("*",)
    return sorted(path for path in files if path.is_file() and any(map(path.match, wanted)))


def read_yaml(path: Path, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> object:
    """What a YAML file says.

    Raises ValueError, naming file and line, if it can't be read.
    """
    try:
        return yaml.load(path.read_text(), loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path.name}, line {mark.line + 1}" if mark else path.name
        raise ValueError(f"{where}: {getattr(error, 'problem', error)}; mend the file") from error


@contextlib.contextmanager
def hold(path: Path, waiting: str) -> Iterator[None]:
    """Hold the lock that this file stands for; say `waiting` if another process has it.

    Raises OSError where the file can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        # The kernel lets go of it when its holder dies, however it dies.
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(waiting, file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock that this file stands for."""
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
