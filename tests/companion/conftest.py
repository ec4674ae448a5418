"""A small checkout with two notebooks and a book of three pages, in a folder of its own."""

import json
import os
import textwrap
from types import SimpleNamespace

import nbformat
import pytest
from nbformat import v4

from milr.companion.profiles import Run

PARAMETERS = """
data = "birds"
seed = 0
device = "auto"
profile = "smoke"
steps = 3
rate = 0.5
names = ("x", "y")
limit = None
"""


def notebook(path, cells, needs=(), title=None):
    """Write a notebook: a title, the parameters cell and these code cells."""
    content = v4.new_notebook(cells=[v4.new_markdown_cell(f"# {title or path.stem}")])
    parameters = v4.new_code_cell(PARAMETERS.strip(), metadata={"tags": ["parameters"]})
    content.cells += [parameters, *(v4.new_code_cell(textwrap.dedent(cell)) for cell in cells)]
    for number, cell in enumerate(content.cells):
        cell["id"] = f"cell-{number}"
    content.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    content.metadata["milr"] = {"needs": list(needs)}
    nbformat.write(content, path)
    return path


PRINTING = ["print(steps * 2)", "print(seed)", "print(profile)"]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    before = dict(os.environ)
    monkeypatch.setenv("MILR_BUILD", str(tmp_path / "build"))
    root = tmp_path / "a checkout"
    (root / "notebooks" / "profiles").mkdir(parents=True)
    for profile, text in {
        "smoke": "",
        "quick": "common: {steps: 5}\na_first: {rate: 1, cub: {steps: 9}}\n",
    }.items():
        (root / "notebooks" / "profiles" / f"{profile}.yml").write_text(text)
    notebook(root / "notebooks" / "a_first.ipynb", PRINTING)
    notebook(root / "notebooks" / "b_second.ipynb", PRINTING, needs=["a_first"])
    (root / "book").mkdir()
    (root / "book" / "welcome.md").write_text("# Welcome\n")
    (root / "_config.yml").write_text('title: small\nexecute: {execute_notebooks: "off"}\n')
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: book/welcome\n"
        "chapters: [{file: notebooks/a_first}, {file: notebooks/b_second}]\n"
    )
    run = Run(profile="quick")
    yield SimpleNamespace(
        root=root,
        run=run,
        notebook=notebook,
        first=root / "notebooks" / "a_first.ipynb",
        second=root / "notebooks" / "b_second.ipynb",
        executed=lambda path: run.folder / "notebooks" / path.name,
        outputs=outputs,
    )
    # A run tells its kernel who it is through the environment of its process.
    os.environ.clear()
    os.environ.update(before)


def outputs(path):
    """Everything that an executed notebook printed."""
    cells = json.loads(path.read_text())["cells"]
    return "".join(
        "".join(output.get("text", ()))
        for cell in cells
        for output in cell.get("outputs", ())
        if output.get("name") == "stdout"
    )
