"""Write down what a notebook found, as evidence for the claims and as numbers for the prose."""

import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from myst_nb import glue

from milr.companion.figures import provenance, results_root
from milr.files import replace_text


@dataclass
class _Written:
    """A file as this process left it: its stamp, its first lines, and the line of each key."""

    stamp: tuple[int, int]
    head: str
    lines: dict[str, str]


_written: dict[Path, _Written] = {}


def record(
    key: str,
    value: float | int | str | bool,
    interval: Sequence[float] | None = None,
    unit: str = "",
) -> None:
    """Write a result to `results/NOTEBOOK.json` of this run, and glue it for the page.

    `interval` is (low, high), in the unit of `value`; on the page they are `KEY_low` and
    `KEY_high`. A page that shows a glued number gives it a format: {glue:text}`KEY:.2f`.

    Raises ValueError for a number that is not finite, and an interval without its value in it.
    """
    value, interval = _plain(value), None if interval is None else [_plain(x) for x in interval]
    _check(key, value, interval)
    path = results_root() / "results" / f"{os.environ.get('MILR_NOTEBOOK', 'by_hand')}.json"
    _write(path, key, {"value": value, "interval": interval, "unit": unit})
    glue(key, value, display=False)
    if interval:
        glue(f"{key}_low", interval[0], display=False)
        glue(f"{key}_high", interval[1], display=False)


def machine() -> dict:
    """Return what this process computes with: its device, how many cores, and versions."""
    # Imported here: what schedules and validates notebooks does without torch.
    from milr.cache import libraries
    from milr.companion.schedule import cores
    from milr.distributed import make_fabric

    device = os.environ.get("MILR_DEVICE", "cpu")
    return {
        "device": str(make_fabric().device) if device == "auto" else device,
        "cores": cores(),
        "versions": {
            "python": platform.python_version(),
            "torch": importlib.metadata.version("torch"),
            **libraries(),
        },
    }


def recorded(cell: dict) -> list[str]:
    """Return the keys that an executed cell recorded, with those of the ends of intervals."""
    outputs = (output.get("metadata", {}) for output in cell.get("outputs", ()))
    return [output["scrapbook"]["name"] for output in outputs if "scrapbook" in output]


def anchor(cell: dict) -> str:
    """Return the name by which a page that links to a result finds the cell that recorded it."""
    return f"cell-{cell['id']}"


def _write(path: Path, key: str, one: dict) -> None:
    """Add a key to the file. A chapter has thousands: what is there is neither read nor made again.

    Another process may have written, or taken the file away; then it is read.
    """
    held = _written.get(path)
    if held is None or held.stamp != _stamp(path):
        kept = json.loads(path.read_text())["values"] if path.exists() else {}
        origin = provenance() | {"machine": machine()}
        head = json.dumps(origin, indent=1, ensure_ascii=False).removesuffix("\n}")
        held = _Written((0, 0), head, {k: _line(k, v) for k, v in kept.items()})
    lines = held.lines | {key: _line(key, one)}
    text = f'{held.head},\n "values": {{\n' + ",\n".join(lines.values()) + "\n }\n}"
    # Waiting for the disk at each key would take most of the time; a chapter that breaks off begins
    # anew, and the manifest of one that ended has the size of this file.
    replace_text(path, text, durable=False)
    _written[path] = _Written(_stamp(path), held.head, lines)


def _line(key: str, one: dict) -> str:
    return f"  {json.dumps(key, ensure_ascii=False)}: {json.dumps(one, ensure_ascii=False)}"


def _stamp(path: Path) -> tuple[int, int]:
    if not path.exists():
        return 0, 0
    found = path.stat()
    return found.st_mtime_ns, found.st_ino


def _plain(value):
    return value.item() if hasattr(value, "item") else value  # of numpy and torch


def _check(key: str, value, interval) -> None:
    numbers = [value, *(interval or ())]
    if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        raise ValueError(f"result {key}: {numbers} is not finite, so it says nothing")
    if interval is not None and not (len(interval) == 2 and interval[0] <= value <= interval[1]):
        raise ValueError(f"result {key}: {value} does not lie in its interval {interval}")
