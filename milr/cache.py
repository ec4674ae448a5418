"""What took long to compute is kept, and found again only if nothing that matters has changed.

An entry has a key made of its configuration, the sources that made it (what they do: comments and
docstrings do not count), the digest of the data, the versions of torch and other libraries and the
kind of device. It lies in `cache_root()/NAME/` as two files: `KEY.pt`, and `KEY.json`, which is
written last: without it there is no entry. Messages go to stderr, so that a notebook's own output
does not depend on what was found.
"""

import ast
import contextlib
import contextvars
import dataclasses
import functools
import hashlib
import heapq
import importlib.metadata
import io
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import torch

from milr.files import files_below, hold, is_held, replace_file, replace_text
from milr.paths import ROOT, cache_root

LIBRARIES = (
    "captum", "numpy", "opencv-python-headless", "scikit-learn", "scipy", "torchvision", "zennit",
)  # fmt: skip
_DAMAGE = (
    ValueError, KeyError, TypeError, RuntimeError, pickle.UnpicklingError, FileNotFoundError,
)  # fmt: skip
# When the sources were written that this process runs, by where they really lie.
_WRITTEN = {
    path.resolve(): path.stat().st_mtime_ns
    for path in files_below(Path(__file__).resolve().parent, "*.py")
}
_LOOKED_AT = 50  # notes of a name, for what is other than in an entry that was asked for
_MISS = object()  # what was kept may be None
_DIGEST_BYTES = hashlib.sha256().digest_size


_only_kept = contextvars.ContextVar("only_kept", default=False)


class NotKeptError(LookupError):
    """Something was asked for within `only_kept` that would have to be made."""


@contextlib.contextmanager
def only_kept() -> Iterator[None]:
    """Within it `cached` makes nothing: it raises NotKeptError for what is not there."""
    token = _only_kept.set(True)
    try:
        yield
    finally:
        _only_kept.reset(token)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A place in the cache: `name` (a folder), `parts` (what the key is made of) and `key`."""

    name: str
    parts: dict
    key: str

    def file(self, ending: str) -> Path:
        """Where its file with this ending (".pt", ".json", ".lock" or ".scratch") lies."""
        return cache_root() / self.name / f"{self.key}{ending}"


def cached(
    name: str,
    config: dict,
    make: Callable[[], object],
    *,
    sources: Sequence[ModuleType | str | Path] = (),
    data: str = "",
) -> object:
    """Return the entry of this name and key, made by `make()` if it isn't there yet.

    name: what is kept, also the name of its folder, e.g. "network".
    config: everything that the result depends on; dicts, lists, strings, numbers, dataclasses.
        `config["device"]` counts by its kind ("cuda:1" as "cuda").
    make: returns tensors, dicts, lists, strings, numbers or None: what
        `torch.load(weights_only=True)` reads. Not called on a hit.
    sources: modules, packages (all files in them) or paths whose text the result depends on.
    data: digest of the data.

    The result is always what is read back, on the CPU, so a first and a second run see the same. If
    the disk refuses the entry (it is full, say), or one of its sources in this package was written
    anew after this process began, which then runs another text than the key says, the result is
    returned as it would be read, and a message says that it was not kept. Of several processes that
    want the same entry one makes it and the others wait; of the ranks of one distributed training
    the first alone may call this.

    Raises TypeError if `config` or what `make` returns can't be kept, and NotKeptError within
    `only_kept` for an entry that is not there.
    """
    entry = locate(name, config, sources=sources, data=data)
    # Before the lock, which a cache that may only be read has no place for.
    found = _read(entry) if os.path.exists(entry.file(".json")) else _MISS
    if found is not _MISS:
        return found
    if _only_kept.get():
        raise NotKeptError(f"{name} {entry.key} is not in the cache")
    if changed := [file for file in _files(sources) if _written_anew(file)]:
        _say(f"{name} {entry.key} will not be kept: {changed[0].name} was changed after this began")
        return _as_read(name, make())
    busy = f"cache: {name} {entry.key} is being made by another process; waiting for it"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold(entry.file(".lock"), busy))
        except OSError as error:
            _say(f"{name} {entry.key} will not be kept: {error}. Going on without.")
            return _as_read(name, make())
        found = _read(entry)
        if found is not _MISS:
            return found
        made = make()
        try:
            return write(entry, made)
        except OSError as error:
            _say(f"{name} {entry.key} could not be kept: {error}. Going on without.")
            return _as_read(name, made)


def locate(
    name: str,
    config: dict,
    *,
    sources: Sequence[ModuleType | str | Path] = (),
    data: str = "",
) -> Entry:
    """Return the place of an entry, whether or not it is there; arguments as for `cached`.

    Raises TypeError if `config` can't be kept.
    """
    kind = _device_kind(config.get("device", "cpu"))
    plain = _plain({**config, "device": kind})
    parts = {
        "config": plain,
        "sources": _digests(sources),
        "data": data,
        "torch": torch.__version__,
        "libraries": libraries(),
        "device": kind,
    }
    text = json.dumps(parts, sort_keys=True)
    return Entry(name, parts, hashlib.sha256(text.encode()).hexdigest()[:20])


@functools.cache
def libraries() -> dict[str, str]:
    """Return the versions of what draws, explains and estimates beside torch, where installed."""
    found = {}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def scratch(
    name: str,
    config: dict,
    *,
    sources: Sequence[ModuleType | str | Path] = (),
    data: str = "",
) -> Path:
    """Return a folder for the checkpoints of an entry that is being made.

    It outlives a killed process, so that the next one can resume, and goes when the entry is
    complete. `write_checkpoint` and `read_checkpoint` keep a state there. Raises TypeError if
    `config` can't be kept.
    """
    folder = locate(name, config, sources=sources, data=data).file(".scratch")
    # A full disk may refuse even this; what is to be kept there says so when it is written.
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_checkpoint(path: Path, state: object) -> None:
    """Keep a state with its digest, whole or not at all, in place of the last one.

    Raises OSError if the disk refuses it; the last checkpoint, if any, is then still there.
    """
    held = io.BytesIO()
    torch.save(state, held)
    content = held.getbuffer()
    # In one file, so that a writer killed in between can't leave a digest of another state.
    digest = hashlib.sha256(content).digest()
    replace_file(path, lambda file: file.writelines((digest, content)))


def read_checkpoint(path: Path) -> object | None:
    """Return the last state, on the CPU, or None; a damaged one is moved aside, and said.

    So is one that cannot be read now (too many open files, say), which stays where it is. Raises
    nothing for damage.
    """
    if not os.path.exists(path):
        return None
    try:
        held = memoryview(path.read_bytes())
        digest, content = held[:_DIGEST_BYTES], held[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            raise ValueError("its content was changed")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        _move_aside(path)
        _say(f"{path} is damaged ({error}); moved aside")
        return None
    except OSError as error:
        _say(f"{path} cannot be read now ({error}); going on without")
        return None


def read(entry: Entry) -> object | None:
    """Return what is kept there, on the CPU, or None, and say which.

    Damaged entries are moved aside; those that cannot be read now (too many open files, or no leave
    to read them) stay where they are. Raises nothing for damage, but what `torch.load` raises of an
    entry that is whole (out of memory, say).
    """
    found = _read(entry)
    return None if found is _MISS else found


def _read(entry: Entry) -> object:
    """What is kept there, or _MISS; otherwise as `read`."""
    if not os.path.exists(entry.file(".json")):
        _say(f"{entry.name} {entry.key} miss: {_why(entry)}")
        return _MISS
    try:
        note = json.loads(entry.file(".json").read_text())
        if note["parts"] != entry.parts:
            raise ValueError("its note was changed")
        if _sha256(entry.file(".pt")) != note["sha256"]:
            raise ValueError("its content was changed")
    except _DAMAGE as error:
        for ending in (".json", ".pt"):
            _move_aside(entry.file(ending))
        _say(f"{entry.name} {entry.key} is damaged ({error}); moved aside, will be made again")
        return _MISS
    except OSError as error:
        _say(f"{entry.name} {entry.key} miss: it cannot be read now ({error})")
        return _MISS
    # What fails from here on (no memory, say) is no fault of the entry.
    found = torch.load(entry.file(".pt"), map_location="cpu", weights_only=True)
    _say(f"{entry.name} {entry.key} hit")
    return found


def write(entry: Entry, made: object) -> object:
    """Keep `made`, whole or not at all, and return it as it will be read.

    Raises OSError if the disk refuses it, TypeError if it isn't something that can be read back.
    """
    _sweep(entry)
    content = entry.file(".pt")
    try:
        with _only_plain(entry.name, made):
            replace_file(content, lambda file: torch.save(made, file))
            back = torch.load(content, map_location="cpu", weights_only=True)
    except TypeError:
        content.unlink(missing_ok=True)
        raise
    note = json.dumps({"parts": entry.parts, "sha256": _sha256(content)}, indent=1)
    replace_text(entry.file(".json"), note)
    shutil.rmtree(entry.file(".scratch"), ignore_errors=True)
    return back


def _as_read(name: str, made: object) -> object:
    """What would be read if this had been kept: copies, on the CPU."""
    held = io.BytesIO()
    with _only_plain(name, made):
        torch.save(made, held)
        held.seek(0)
        return torch.load(held, map_location="cpu", weights_only=True)


@contextlib.contextmanager
def _only_plain(name: str, made: object) -> Iterator[None]:
    """Say with a TypeError that something can't be written, or not read back."""
    try:
        yield
    except (pickle.PickleError, AttributeError, TypeError) as error:
        raise TypeError(
            f"{name}: only tensors, dicts, lists, strings and numbers can be kept, "
            f"not {type(made).__name__} with something else in it ({error})"
        ) from error


def _move_aside(path: Path) -> None:
    # It may have gone already, or lie where nothing may be written.
    with contextlib.suppress(OSError):
        os.replace(path, path.with_name(f"{path.name}.damaged"))


def _sweep(entry: Entry) -> None:
    """Remove what killed writers of this name left behind; whose lock is held is still alive."""
    for part in entry.file(".part").parent.glob("*.part"):
        key = part.name.split(".")[0]
        if key == entry.key or not is_held(part.with_name(f"{key}.lock")):
            part.unlink(missing_ok=True)


def _why(entry: Entry) -> str:
    """Which parts of the key differ from those of the nearest entry of the same name.

    It is looked for among the newest: a name may have thousands.
    """
    mine = _flat(entry.parts)
    nearest = None
    notes = entry.file(".json").parent.glob("*.json")
    for path in heapq.nlargest(_LOOKED_AT, notes, key=_written):
        try:
            theirs = _flat(json.loads(path.read_text())["parts"])
        except (ValueError, KeyError, TypeError, OSError):
            continue
        keys = sorted(mine.keys() | theirs.keys())
        differing = [key for key in keys if mine.get(key) != theirs.get(key)]
        if nearest is None or len(differing) < len(nearest[0]):
            nearest = differing, theirs
    if nearest is None:
        return "no entry of this name yet"
    differing, theirs = nearest
    shown = []
    for key in differing[:4]:
        changed = f"{theirs.get(key, 'absent')} -> {mine.get(key, 'absent')}"
        shown.append(key if len(changed) > 40 else f"{key} {changed}")
    more = f" and {len(differing) - 4} more" if len(differing) > 4 else ""
    return f"other than the nearest entry in {', '.join(shown)}{more}"


def _written(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # another process may have moved it aside
        return 0


def _flat(parts: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in parts.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _device_kind(device) -> str:
    kind = str(device).split(":")[0]
    if kind != "auto":
        return kind
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _plain(config: dict) -> dict:
    def plain(value):
        if dataclasses.is_dataclass(value):
            return dataclasses.asdict(value)
        raise TypeError(
            f"a configuration is made of dicts, lists, strings and numbers; {value!r} is none"
        )

    # There and back, so that what is compared with a stored note looks like one.
    return json.loads(json.dumps(config, default=plain))


def _digests(sources: Sequence[ModuleType | str | Path]) -> dict[str, str]:
    digests = {}
    for file in _files(sources):
        # Of the checkout from its root, so that another one finds the same; others by all of it.
        label = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file
        digests[str(label)] = code_digest(file)
    return digests


def code_digest(file: Path) -> str:
    """Return a digest of what a source does: of Python, without comments and docstrings."""
    return _digest_of(file, file.stat().st_mtime_ns)


@functools.cache
def _digest_of(file: Path, written: int) -> str:
    text = file.read_bytes()
    try:
        tree = ast.parse(text) if file.suffix == ".py" else None
    except SyntaxError:  # somebody is in the middle of an edit
        tree = None
    if tree is None:
        return hashlib.sha256(text).hexdigest()[:16]
    described = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if isinstance(node, described) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]


def _files(sources: Sequence[ModuleType | str | Path]) -> list[Path]:
    """The files of these modules, packages and paths."""
    files = []
    for source in sources:
        path = Path(source.__file__ if isinstance(source, ModuleType) else source)
        path = (ROOT / path).resolve()
        package = path.name == "__init__.py"
        files += files_below(path.parent, "*.py") if package else [path]
    return files


def _written_anew(file: Path) -> bool:
    return file in _WRITTEN and file.stat().st_mtime_ns != _WRITTEN[file]


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _say(message: str) -> None:
    print(f"cache: {message}", file=sys.stderr, flush=True)
