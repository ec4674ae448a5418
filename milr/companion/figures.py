"""Keep a figure with what it shows: picture, plotted numbers, alt text and where it comes from.

The runner tells a notebook who it is through the environment: `MILR_NOTEBOOK`, `MILR_PROFILE`,
`MILR_DATASET`, `MILR_SEED`, and `MILR_RESULTS`, the folder of its results. A notebook opened by
hand has none of them, and keeps its figures in the `scratch` folder of the build folder.
"""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from IPython.display import Image

from milr.files import replace_file
from milr.paths import ROOT, build_root

if TYPE_CHECKING:
    # Those who run notebooks and build the book draw nothing, and it takes two seconds.
    from matplotlib.figure import Figure

STYLE = Path(__file__).with_name("milr.mplstyle")
DOTS_PER_INCH = 200
PAGE_PIXELS_PER_INCH = 100  # a figure 7 inches wide is shown 700 pixels wide, at twice the dots
PHONE_PIXELS = 520  # on a phone wider pictures keep their size, narrower ones shrink a little
DIGITS = 12  # of a digest, on the page; the file beside the picture has all of them


def save(
    figure: "Figure",
    name: str,
    alt: str,
    data: Mapping[str, np.ndarray],
    *,
    caption: str = "",
    data_digest: str = "",
) -> Image:
    """Write `figures/<name>.png`, `.npz` and `.json` below the results; give what shows it.

    `alt` says in a sentence or two what a reader who cannot see the picture should know;
    `data` holds the plotted arrays by name; `caption` (MyST Markdown) stands under the figure on
    the page; `data_digest` is the digest of the data that were used. The picture shows when
    it is the last expression of its cell, one figure to a cell; the figure itself is closed.

    Raises ValueError for a name that is no file name, an alt text too short to tell anything,
    and arrays that are missing or hold something else than numbers.
    """
    _check(name, alt, data)
    folder = results_root() / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    picture = _png(figure)
    arrays = _npz(data)
    origin = provenance(data_digest)
    sidecar = {
        "name": name,
        "alt": alt,
        "caption": caption,
        **origin,
        "plotted": {key: list(np.shape(value)) for key, value in data.items()},
        "sha256": {"png": _sha256(picture), "npz": _sha256(arrays)},
    }
    text = json.dumps(sidecar, indent=1, ensure_ascii=False) + "\n"
    for suffix, content in ((".npz", arrays), (".png", picture), (".json", text.encode())):
        replace_file(folder / f"{name}{suffix}", lambda file, content=content: file.write(content))
    from matplotlib import pyplot

    pyplot.close(figure)
    width = round(figure.get_size_inches()[0] * PAGE_PIXELS_PER_INCH)
    shown = {"milr": {"name": name, "caption": caption, **origin}}
    return Image(data=picture, format="png", alt=alt, width=width, metadata=shown)


def results_root() -> Path:
    """Folder of the running notebook's results: `MILR_RESULTS`, or `build/scratch`."""
    given = os.environ.get("MILR_RESULTS")
    return Path(given) if given else build_root() / "scratch"


def provenance(data_digest: str = "") -> dict[str, str]:
    """Which notebook, profile, data set, seed and commit the running figure comes from."""
    return {
        "notebook": os.environ.get("MILR_NOTEBOOK", "by hand"),
        "profile": os.environ.get("MILR_PROFILE", "smoke"),
        "dataset": os.environ.get("MILR_DATASET", "birds"),
        "seed": os.environ.get("MILR_SEED", "0"),
        "commit": _commit(),
        "data_digest": data_digest,
    }


def for_page(notebook: dict, results: Path, page_folder: Path) -> None:
    """Make the figures of an executed notebook ready for its page, changing `notebook` in place.

    The page takes alt text and caption of a figure from its cell's metadata, whereas `save` can
    only write to the output's; so they are moved there, the line about the origin is added, and
    pictures and plotted numbers are copied from `results` to `page_folder/figures`, for prose that
    shows them and for download.

    Raises ValueError for a cell with two figures: a cell has one alt text and one caption.
    """
    for number, cell in enumerate(notebook["cells"], start=1):
        found = [found for output in cell.get("outputs", ()) if (found := _saved(output))]
        if not found:
            continue
        if len(found) > 1:
            names = ", ".join(shown["milr"]["name"] for shown in found)
            raise ValueError(f"cell {number} shows {names}: give each figure a cell of its own")
        shown = found[0]
        name = shown["milr"]["name"]
        (page_folder / "figures").mkdir(parents=True, exist_ok=True)
        for file in (f"figures/{name}.png", f"figures/{name}.npz"):
            shutil.copyfile(results / file, page_folder / file)
        size = "wide" if shown["width"] > PHONE_PIXELS else "narrow"
        cell["metadata"]["mystnb"] = {
            "image": {"alt": shown["alt"], "classes": size},
            "figure": {"name": f"figure-{name}", "caption": _caption(shown["milr"])},
        }


def _saved(output: dict) -> dict | None:
    """What `save` wrote to the metadata of an output; None for outputs of another kind."""
    shown = output.get("metadata", {}).get("image/png", {})
    return shown if "milr" in shown else None


def _caption(shown: dict) -> str:
    """The caption, then a line of its own (the legend, for docutils) about the origin."""
    parts = [f"notebook {shown['notebook']}", shown["dataset"]]
    parts += [f"profile {shown['profile']}", f"seed {shown['seed']}"]
    if shown["commit"]:
        parts.append(f"commit {shown['commit']}")
    if shown["data_digest"]:  # a figure of formulas has no data
        parts.append(f"data {shown['data_digest'].removeprefix('sha256:')[:DIGITS]}")
    parts.append(f"{{download}}`the numbers <figures/{shown['name']}.npz>`")
    origin = f"{{.provenance}}\n{' · '.join(parts)}"
    return f"{shown['caption'] or shown['name']}\n\n{origin}"


def _check(name: str, alt: str, data: Mapping[str, np.ndarray]) -> None:
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise ValueError(f"figure name {name!r}: use small letters, digits and underscores")
    if len(alt.split()) < 5:
        raise ValueError(f"alt text {alt!r} of figure {name}: say in a sentence what is to be seen")
    if not data:
        raise ValueError(f"figure {name} comes without its numbers: give data={{name: array}}")
    for key, value in data.items():
        if np.asarray(value).dtype.kind not in "biufU":
            kind = np.asarray(value).dtype
            raise ValueError(f"data[{key!r}] of figure {name} is {kind}: give numbers or words")


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    # Without the version of matplotlib in it, the same numbers give the same bytes.
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()


def _npz(data: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{key: np.asarray(value) for key, value in data.items()})
    return buffer.getvalue()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _commit() -> str:
    """Short commit of the checkout, with `-dirty` if files differ from it; empty outside of git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    # The commit of a repository around a checkout that has none of its own says nothing.
    own = os.environ | {"GIT_CEILING_DIRECTORIES": str(ROOT.parent)}
    try:
        done = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git on this machine
        return ""
    return done.stdout.strip()
