"""Figures carry what they show, and where it comes from, to the results and to the page."""

import ast
import json
import re
import subprocess

import matplotlib
import numpy as np
import pytest
from PIL import Image as Picture

from milr.companion import figures
from milr.paths import ROOT

matplotlib.use("Agg")
from matplotlib.figure import Figure

ALT = "A line that climbs from nothing to one."


@pytest.fixture
def results(tmp_path, monkeypatch):
    for name, value in {"RESULTS": str(tmp_path), "NOTEBOOK": "04_milr_module", "SEED": "3",
                        "PROFILE": "quick", "DATASET": "cub"}.items():  # fmt: skip
        monkeypatch.setenv(f"MILR_{name}", value)
    return tmp_path


def line() -> Figure:
    figure = Figure(figsize=(5, 2))
    figure.subplots().plot([0, 1], [0, 1])
    return figure


def shown_cell(picture) -> dict:
    data, metadata = picture._repr_mimebundle_()
    output = {"output_type": "execute_result", "data": data, "metadata": metadata}
    return {"cell_type": "code", "metadata": {}, "source": "", "outputs": [output]}


def test_the_commit_of_a_repository_around_the_checkout_is_none_of_its_own(tmp_path, monkeypatch):
    who = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    monkeypatch.setattr(figures, "ROOT", checkout)
    for folder, commit in ((tmp_path, ""), (checkout, "[0-9a-f]{7,}")):
        for words in (["init"], ["commit", "--allow-empty", "-m", "one"]):
            subprocess.run(["git", "-C", folder, *who, *words], check=True, capture_output=True)
        assert re.fullmatch(commit, figures.provenance()["commit"])


def test_picture_numbers_and_origin_lie_beside_each_other(results):
    figures.save(line(), "climb", ALT, {"x": np.arange(2), "y": [0.0, 1.0]}, data_digest="abc")
    folder = results / "figures"
    assert Picture.open(folder / "climb.png").size == (1000, 400)
    plotted = np.load(folder / "climb.npz")
    assert plotted["y"].tolist() == [0.0, 1.0]
    sidecar = json.loads((folder / "climb.json").read_text())
    assert sidecar["alt"] == ALT
    origin = {key: sidecar[key] for key in ("notebook", "profile", "seed", "dataset")}
    assert origin == {
        "notebook": "04_milr_module", "profile": "quick", "seed": "3", "dataset": "cub",
    }  # fmt: skip
    assert sidecar["data_digest"] == "abc"
    assert sidecar["plotted"] == {"x": [2], "y": [2]}
    assert sorted(path.name for path in folder.iterdir()) == [
        "climb.json",
        "climb.npz",
        "climb.png",
    ]


def test_same_figure_gives_the_same_bytes(results):
    figures.save(line(), "first", ALT, {"x": [1]})
    figures.save(line(), "second", ALT, {"x": [1]})
    folder = results / "figures"
    assert (folder / "first.png").read_bytes() == (folder / "second.png").read_bytes()


def test_notebook_opened_by_hand_keeps_figures_in_the_scratch_folder(tmp_path, monkeypatch):
    for name in ("RESULTS", "NOTEBOOK", "PROFILE", "SEED"):
        monkeypatch.delenv(f"MILR_{name}", raising=False)
    monkeypatch.setenv("MILR_BUILD", str(tmp_path))
    figures.save(line(), "climb", ALT, {"x": [1]})
    sidecar = json.loads((tmp_path / "scratch" / "figures" / "climb.json").read_text())
    assert sidecar["notebook"] == "by hand"


def test_page_gets_alt_text_caption_and_origin(results, tmp_path):
    digest = "sha256:0123456789abcdef"
    picture = figures.save(
        line(), "climb", ALT, {"x": [1]}, caption="It climbs.", data_digest=digest
    )
    notebook = {"cells": [{"cell_type": "markdown", "source": "", "metadata": {}},
                          shown_cell(picture)]}  # fmt: skip
    figures.for_page(notebook, results, tmp_path / "pages")
    put = notebook["cells"][1]["metadata"]["mystnb"]
    assert put["image"] == {"alt": ALT, "classes": "narrow"}
    assert put["figure"]["name"] == "figure-climb"
    caption = put["figure"]["caption"]
    assert caption.startswith("It climbs.\n\n")
    assert "notebook 04_milr_module · cub · profile quick · seed 3" in caption
    assert "· data 0123456789ab ·" in caption
    assert notebook["cells"][0]["metadata"] == {}
    copied = sorted(path.name for path in (tmp_path / "pages" / "figures").iterdir())
    assert copied == ["climb.npz", "climb.png"]


def test_a_figure_without_data_names_none(results, tmp_path):
    cell = shown_cell(figures.save(line(), "climb", ALT, {"x": [1]}))
    figures.for_page({"cells": [cell]}, results, tmp_path / "pages")
    caption = cell["metadata"]["mystnb"]["figure"]["caption"]
    assert "seed 3" in caption and "data" not in caption


@pytest.mark.parametrize(
    "chapter",
    ["02_birds", "03_prototypical_network", "04_milr_module", "05_figures", "09_evaluation"],
)
def test_every_figure_of_a_chapter_on_birds_names_its_data(chapter):
    saved = {
        ast.unparse(call.args[1]): {keyword.arg for keyword in call.keywords}
        for cell in json.loads((ROOT / "notebooks" / f"{chapter}.ipynb").read_text())["cells"]
        if cell["cell_type"] == "code"
        for call in ast.walk(ast.parse("".join(cell["source"])))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "figures.save"
    }
    assert len(saved) > 5
    # The module is a drawing, of no data.
    without = {name for name, given in saved.items() if "data_digest" not in given}
    assert without <= {"'module'"}


def test_two_figures_in_a_cell_are_refused_by_name(results, tmp_path):
    cells = [shown_cell(figures.save(line(), name, ALT, {"x": [1]})) for name in ("one", "two")]
    cells[0]["outputs"] += cells[1]["outputs"]
    with pytest.raises(ValueError, match="cell 1 shows one, two"):
        figures.for_page({"cells": cells[:1]}, results, tmp_path)


@pytest.mark.parametrize(
    ("name", "alt", "data", "message"),
    [
        ("../up", ALT, {"x": [1]}, "small letters"),
        ("climb", "a line", {"x": [1]}, "say in a sentence"),
        ("climb", ALT, {}, "without its numbers"),
        ("climb", ALT, {"x": [object()]}, r"data\['x'\]"),
    ],
)
def test_figure_without_name_alt_text_or_numbers_is_refused(results, name, alt, data, message):
    with pytest.raises(ValueError, match=message):
        figures.save(line(), name, alt, data)
    assert not (results / "figures").exists()
