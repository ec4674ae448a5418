"""What the prose says about the repository is so."""

import ast
import re
from collections import Counter

import nbformat
import pytest
import yaml

from milr.paths import ROOT

LEAVES = ("paths", "files", "cache", "distributed")
METHOD = (
    "infonce",
    "bottleneck",
    "taps",
    "maps",
    "inserted",
    "readings",
    "doors",
    "weights",
    "feeding",
    "fitting",
    "refining",
)
METHOD += ("explainer",)
FACES = ("attribution", "__init__")
TRUTH = ("exact", "estimators")
ARROW = (LEAVES, METHOD, FACES, TRUTH, ("data",), ("models", "peers"), ("evaluation",))
FITTED = sorted((ROOT / "book").glob("*.md"))
FITTED += sorted((ROOT / "notebooks").glob("0[1-8]_*.ipynb"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "book").glob("*.md"))]


def test_tree_in_contributing_is_the_tree():
    block = re.findall(r"```\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)[0]
    folder, named = ROOT, []
    for line in block.splitlines():
        names = line[:22].split()
        folder = ROOT / "milr" if line.startswith(" ") else ROOT
        named += [folder / name for name in names]
    assert [path for path in named if not path.exists()] == []
    modules = {path for path in (ROOT / "milr").glob("*.py") if path.stem != "__init__"}
    assert modules <= set(named)


def test_imports_never_turn_back():
    rank = {name: index for index, group in enumerate(ARROW) for name in group}
    wrong = []
    for path in sorted((ROOT / "milr").rglob("*.py")):
        module = path.relative_to(ROOT).with_suffix("").parts
        part = module[1]
        for used in _imported(path.read_text(), module):
            if used == part or (part == "companion" and used in LEAVES):
                continue
            if part == "companion" or used not in rank or rank[used] > rank[part]:
                wrong.append(f"{path.relative_to(ROOT)} imports {used}")
    assert wrong == []


@pytest.mark.parametrize(
    ("module", "text", "expected"),
    [
        ("milr.explainer", "from milr import MILR, taps", {"__init__", "taps"}),
        ("milr.explainer", "def f():\n    from milr.data.birds import load", {"data"}),
        ("milr.explainer", "import numpy, milr.exact as truth", {"exact"}),
        ("milr.explainer", "from . import estimators", {"estimators"}),
        ("milr.explainer", "from .estimators.face import estimate", {"estimators"}),
        ("milr.models.train", "import milr", {"__init__"}),
        ("milr.data.birds.__init__", "from .loading import load", {"data"}),
        ("milr.data.birds.paint", "from ...models import train", {"models"}),
        ("milr.data.birds.paint", "import milrose\nfrom torch import nn", set()),
    ],
)
def test_an_import_is_seen_however_it_is_written(module, text, expected):
    assert _imported(text, tuple(module.split("."))) == expected


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_and_files_that_a_page_names_exist(page):
    text = page.read_text()
    rules = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = "\n".join(re.findall(r"```bash\n.*?```|`[^`\n]+`", text, re.DOTALL))
    assert set(re.findall(r"\bmake ([a-z-]+)", code)) <= rules
    files = re.findall(r"`((?:milr|book|notebooks|tests)/[\w/.]+\w)`", text)
    assert [name for name in files if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", FITTED, ids=lambda path: path.stem)
def test_code_of_a_page_fits_its_column(page):
    assert [line for line in _code_of_page(page).splitlines() if len(line) > 80] == []


def test_no_two_chapters_save_a_figure_under_one_name():
    """They would take each other's file, and the book has one label for both."""
    named = [
        argument.value
        for path in (ROOT / "notebooks").glob("*.ipynb")
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code"
        for call in ast.walk(ast.parse(cell.source))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "figures.save"
        for argument in call.args[1:2]
        if isinstance(argument, ast.Constant)
    ]
    assert len(named) > 40
    assert [name for name, count in Counter(named).items() if count > 1] == []


def test_every_page_is_in_the_table_of_contents():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = {toc["root"]} | {page["file"] for part in toc["parts"] for page in part["chapters"]}
    prose = {f"book/{path.stem}" for path in (ROOT / "book").glob("*.md")}
    chapters = {f"notebooks/{path.stem}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert prose | chapters == listed


def test_every_cited_work_is_in_the_bibliography():
    known = set(re.findall(r"@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text()))
    sources = [*PAGES, *sorted((ROOT / "notebooks").glob("*.ipynb"))]
    text = "".join(path.read_text() for path in sources)
    cited = {key for keys in re.findall(r"\{cite:\w\}`([\w,]+)`", text) for key in keys.split(",")}
    assert cited and cited <= known


def _code_of_page(path) -> str:
    """The code that a page shows, without what it prints."""
    if path.suffix == ".md":
        return "\n".join(re.findall(r"```(?:python|bash)\n(.*?)```", path.read_text(), re.DOTALL))
    cells = nbformat.read(path, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")


def _imported(text: str, module: tuple[str, ...]) -> set[str]:
    """Parts of milr that a module (its name, in parts) imports, anywhere in it."""
    parts = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = module[: -node.level] if node.level else ()
            found = [*start, *(node.module.split(".") if node.module else ())]
            names = [[*found, alias.name] for alias in node.names]
        else:
            continue
        for name in names:
            if name[0] == "milr":
                part = name[1] if len(name) > 1 else "__init__"
                parts.add("__init__" if part[0].isupper() else part)
    return parts
