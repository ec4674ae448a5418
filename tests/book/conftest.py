"""A small book to look at: the real pages, with stand-ins for what only a run can give.

`MILR_BOOK=build/birds-quick-0/book pytest tests/book` looks at a book that was built before.
"""

import fcntl
import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pytest
import yaml

from milr.companion import claims, figures, full, plots, scorecard, stage
from milr.companion.profiles import Run
from milr.paths import ROOT

matplotlib.use("Agg")

# What chapters contain, in small: maths, a wide table, long lines, figures of both widths.
MARKDOWN = """## A question

Inline $I(x_i; z)$, and displayed:

$$
I(x_i; z) \\ge \\log K + \\mathbb{E} \\left[ \\log p(j \\mid x_i, z^1, \\ldots, z^K) \\right]
$$

| one column | another column | a third column | a fourth column | a fifth column |
|---|---|---|---|---|
| 0.123456789 | 0.123456789 | 0.123456789 | 0.123456789 | 0.123456789 |
"""
CODE = (
    "explainer.explain(images).redundant.mean(dim=(1, 2)).tolist()  # a line as long as lines get"
)
PRINTED = str([0.125] * 30)  # longer than a line


@pytest.fixture(scope="session")
def book(tmp_path_factory) -> Path:
    """Folder of the built pages; built once, also when several workers run."""
    if given := os.environ.get("MILR_BOOK"):
        return Path(given).resolve()
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    html = shared / "book" / "_build" / "html"
    with open(shared / "book.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (html / "index.html").exists():
            _build(shared)
    return html


@pytest.fixture(scope="session")
def server(book) -> str:
    """Address of a server on this machine that offers the book."""
    handler = functools.partial(_Quiet, directory=str(book))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium that asks for nothing by itself."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        message = "no chromium on this machine; on Debian: apt-get install chromium"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--no-first-run"]  # fmt: skip
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, headless=True, args=quiet)
        yield chromium
        chromium.close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def pytest_generate_tests(metafunc):
    if "page_name" in metafunc.fixturenames:
        metafunc.parametrize("page_name", toc_pages())


def toc_pages() -> list[str]:
    """Every page of the table of contents, without suffix."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [toc["root"], *chapters]


def _build(folder: Path) -> None:
    """Stage the checkout as if nothing had been run yet, add stand-ins, and build the book."""
    root, source, target = folder / "checkout", folder / "book-src", folder / "book"
    for old in (root, source):
        shutil.rmtree(old, ignore_errors=True)
    _copy_checkout(root)
    with pytest.MonkeyPatch.context() as patch:
        # A smoke run that someone made in this checkout must not show.
        patch.setenv("MILR_BUILD", str(folder / "nothing-built"))
        stage.stage(root, Run(profile="smoke"), source)
        wanted = _wanted(source)
        # The same figures stand on every page; they are drawn once.
        patch.setattr(figures, "_png", functools.cache(figures._png))
        for path in sorted((source / "notebooks").glob("*.ipynb")):
            _add_stand_ins(path, wanted)
    # As `stage` does: the program beside python would start that of where it was installed.
    program = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    options = ["--path-output", str(target), "-W", "--keep-going", "-n", "--all"]
    done = subprocess.run([*program, "build", source, *options], capture_output=True, text=True)
    if done.returncode:
        shutil.rmtree(target, ignore_errors=True)
        lines = (done.stdout + done.stderr).splitlines()
        complaints = [line for line in lines if re.search("warning|error", line, re.IGNORECASE)]
        pytest.fail("the book was not built:\n" + "\n".join(complaints[:30]), pytrace=False)


def _copy_checkout(root: Path) -> None:
    shutil.copytree(ROOT / "book", root / "book")
    (root / "notebooks").mkdir()
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, root / name)
    for page in toc_pages():
        if page.startswith("notebooks/"):
            shutil.copy(ROOT / f"{page}.ipynb", root / f"{page}.ipynb")


def _wanted(source: Path) -> dict[str, dict[str, set[str]]]:
    """What the pages want of each chapter's run: figures, and values with their format."""
    prose = "".join(path.read_text() for path in sorted((source / "book").glob("*.md")))
    wanted = {}
    for path in sorted((source / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(path, 4).cells
        text = "".join(cell.source + "\n" for cell in cells if cell.cell_type == "markdown")
        values = re.findall(r"\{glue:text\}`([\w.]+:[^`]+)`", text)
        values += re.findall(rf"{path.name}::([\w.]+:[^`]+)`", prose)
        shown = re.findall(r"\bfigure-([a-z0-9_]+)", text + prose)
        shown += re.findall(r"figures/(\w+)\.png", prose)
        saved = set(re.findall(r'figures\.save\([^"]*"(\w+)"', _code_of(cells)))
        wanted[path.stem] = {"values": set(values), "figures": set(shown) & saved}
    return wanted


def _add_stand_ins(path: Path, wanted: dict) -> None:
    notebook, name, results = nbformat.read(path, 4), path.stem, path.parent.parent / "results"
    os.environ["MILR_RESULTS"], os.environ["MILR_NOTEBOOK"] = str(results), name
    try:
        cells = [nbformat.v4.new_markdown_cell(MARKDOWN), _code(CODE, {"text/plain": PRINTED})]
        for kind, figure in _figures().items():
            cells.append(_figure_cell(f"stand_in_{name}_{kind}", figure))
        if name == "14_scorecard":
            reference = full.evidence(full.load())
            ledger = scorecard.table(claims.load(), reference, reference, {})
            cells.append(_code("scorecard.table(ledger)", {"text/html": ledger}))
        for shown in sorted(wanted[name]["figures"]):
            cells.append(_figure_cell(shown, _diagram()))
    finally:
        del os.environ["MILR_RESULTS"], os.environ["MILR_NOTEBOOK"]
    # A value may be shown in two formats, and is glued once.
    forms = dict(value.split(":") for value in sorted(wanted[name]["values"]))
    cells += [_glue_cell(key, form) for key, form in forms.items()]
    notebook.cells += cells
    content = json.loads(nbformat.writes(notebook))
    stage.anchor_results(content)
    figures.for_page(content, results, path.parent)
    path.write_text(json.dumps(content))


_diagram = functools.cache(plots.diagram)


@functools.cache
def _figures() -> dict:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (3, 5, 2, 3, 21, 21), dtype=np.uint8)
    lines = {"loss, nats": {"held out": (np.arange(9), np.arange(9.0))}}
    return {
        "wide": plots.overlays(images, rng.normal(size=(3, 5, 2, 7, 7))),
        "narrow": plots.curves(lines),
    }


def _figure_cell(name: str, figure):
    picture = figures.save(
        figure, name, "A stand-in that shows noise and nothing else.", {"noise": np.zeros(2)},
        caption="A stand-in with $K$ in its caption.",
    )  # fmt: skip
    data, metadata = picture._repr_mimebundle_()
    return _code(f"figures.save(figure, {name!r})", data | {"text/plain": repr(picture)}, metadata)


def _glue_cell(key: str, form: str):
    value = {"s": "a word", "d": 3}.get(form[-1], 0.5)
    prefix = "application/papermill.record/"
    record = {"scrapbook": {"name": key, "mime_prefix": prefix}}
    return _code(f"glue({key!r})", {f"{prefix}text/plain": repr(value)}, record)


def _code(source: str, data: dict, metadata: dict | None = None):
    output = nbformat.v4.new_output("display_data", data=data, metadata=metadata or {})
    return nbformat.v4.new_code_cell(source, execution_count=1, outputs=[output])


def _code_of(cells: list) -> str:
    return "".join(cell.source + "\n" for cell in cells if cell.cell_type == "code")
