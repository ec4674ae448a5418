"""Write down what a notebook found, as evidence for the claims and as numbers for the prose."""

import json
import math
import os
from collections.abc import Sequence

from myst_nb import glue

from milr.companion.figures import provenance, results_root
from milr.files import replace_text


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
    kept = json.loads(path.read_text())["values"] if path.exists() else {}
    kept[key] = {"value": value, "interval": interval, "unit": unit}
    replace_text(path, json.dumps({**provenance(), "values": kept}, indent=1, ensure_ascii=False))
    glue(key, value, display=False)
    if interval:
        glue(f"{key}_low", interval[0], display=False)
        glue(f"{key}_high", interval[1], display=False)


def _plain(value):
    return value.item() if hasattr(value, "item") else value  # of numpy and torch


def _check(key: str, value, interval) -> None:
    numbers = [value, *(interval or ())]
    if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        raise ValueError(f"result {key}: {numbers} is not finite, so it says nothing")
    if interval is not None and not (len(interval) == 2 and interval[0] <= value <= interval[1]):
        raise ValueError(f"result {key}: {value} does not lie in its interval {interval}")
