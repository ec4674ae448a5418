"""Chapters run on photographs, of a small made-up copy of CUB-200-2011.

What the notebooks store are outputs of drawn birds, so nothing else runs what is for photographs.
"""

import contextlib
import functools
import io
import json
import os
import re
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from PIL import Image

from milr.companion.profiles import Run, resolve
from milr.companion.run import identity
from milr.evaluation import cases
from milr.paths import ROOT

matplotlib.use("Agg")

# Less than a smoke run does where that is the same for drawn birds.
SMALL = {"size": 32, "per_species": 12, "steps": 2}
FEWER = {"training": SMALL, "explainers": 1}
QUICK = {"stages": ["conv1"], "permuted_labels": False, "fit_share": 0.1}
CHAPTERS = {
    "02_birds": {},
    "03_prototypical_network": {"training": SMALL},
    "04_milr_module": {"training": SMALL},
    "05_figures": FEWER,
    "06_classification": FEWER | {"photographs": True},
    "07_representation": FEWER | {"learning": SMALL},
    "09_evaluation": FEWER | QUICK | {"images": 2},
}
# As many species as give sixteen to train on, and eight novel ones to show.
SPECIES = [f"{number:03d}.Bird_{number}" for number in range(1, 33)]
EACH = 12
# Where parts lie in the box, from its left upper corner, in shares of its sides.
PARTS = {
    "back": (0.4, 0.2), "beak": (0.95, 0.25), "belly": (0.5, 0.8), "breast": (0.75, 0.6),
    "crown": (0.8, 0.05), "forehead": (0.9, 0.1), "left eye": (0.85, 0.15),
    "left leg": (0.5, 0.95), "left wing": (0.4, 0.5), "nape": (0.7, 0.1),
    "right eye": (0.85, 0.15), "right leg": (0.55, 0.95), "right wing": (0.4, 0.5),
    "tail": (0.05, 0.5), "throat": (0.85, 0.35),
}  # fmt: skip


def bird(species, number):
    """A scene with a box in the colour of the species, of which one side's parts are hidden."""
    draw = np.random.default_rng([species, number])
    box = x, y, width, height = [*draw.integers(2, 20, 2), *draw.integers(30, 42, 2)]
    photo = np.tile(draw.integers(60, 200, (64, 1, 3), np.uint8), (1, 96, 1))
    photo[y : y + height, x : x + width] = np.random.default_rng(species).integers(0, 255, 3)
    hidden = ("left", "right")[number % 2]
    parts = [
        (0.0, 0.0, 0) if name.startswith(hidden) else (x + across * width, y + down * height, 1)
        for name, (across, down) in PARTS.items()
    ]
    return Image.fromarray(photo), box, parts


@pytest.fixture(scope="module")
def chapter(tmp_path_factory, write_cub, write_stl10):
    """Run a chapter, once: what it printed, recorded and drew.

    All chapters have one cache, so the network is trained once.
    """
    place = tmp_path_factory.mktemp("photographs")
    before = dict(os.environ)
    write_cub(place / "data", SPECIES, EACH, PARTS, bird)
    os.environ |= {f"MILR_{name.upper()}": str(place / name) for name in ("data", "build", "cache")}
    with pytest.MonkeyPatch.context() as patch:
        things = [*range(1, 11)]
        write_stl10(place / "data", patch, 6 * things, things + [1, 2, 3])
        yield functools.cache(execute)
    # A run tells a notebook who it is through the environment.
    os.environ.clear()
    os.environ.update(before)


def execute(name):
    """Run the cells in this process: a kernel for each chapter would import for a minute in all."""
    run = Run(data="cub", profile="smoke", device="cpu")
    notebook = ROOT / "notebooks" / f"{name}.ipynb"
    os.environ.update(identity(notebook, run, run.folder))
    names = {"__name__": "__main__"}
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.chdir(notebook.parent):
        for number, cell in enumerate(cells(name, "code")):
            exec(compile(source(cell), f"{name}, code cell {number}", "exec"), names)
            if "parameters" in cell["metadata"].get("tags", ()):
                names |= resolve(notebook, run, CHAPTERS[name])
    results = json.loads((run.folder / "results" / f"{name}.json").read_text())
    figures = [json.loads(path.read_text()) for path in run.folder.glob("figures/*.json")]
    return SimpleNamespace(
        dataset=results["dataset"],
        values=dict(shown(results["values"])),
        figures={figure["name"]: figure for figure in figures if figure["notebook"] == name},
        plotted=lambda figure: np.load(run.folder / "figures" / f"{figure}.npz"),
        printed=printed.getvalue(),
    )


def cells(name, kind):
    found = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())["cells"]
    return [cell for cell in found if cell["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


def shown(values):
    """Results by the names that the prose has for them: KEY, KEY_low and KEY_high."""
    for key, one in values.items():
        ends = zip(("_low", "_high"), one["interval"] or (), strict=False)
        yield from [(key, one["value"]), *((key + end, value) for end, value in ends)]


@pytest.mark.parametrize("name", CHAPTERS)
def test_results_and_figures_of_a_chapter_say_that_they_are_of_photographs(chapter, name):
    found = chapter(name)
    assert found.dataset == "cub" and found.values
    assert {figure["dataset"] for figure in found.figures.values()} == {"cub"}


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_prose_finds_all_that_it_shows_of_photographs(chapter, name):
    """Without one of them, or with a word where it has a format for numbers, no book is built."""
    prose = "".join(source(cell) for cell in cells(name, "markdown"))
    asked = re.findall(r"\{glue:text\}`([^:`]+):([^`]+)`", prose)
    assert asked and {key for key, _ in asked} <= chapter(name).values.keys()
    assert all(format(chapter(name).values[key], form) for key, form in asked)


@pytest.mark.parametrize("name", [name for name in CHAPTERS if name != "02_birds"])
def test_no_caption_calls_photographs_drawn_birds(chapter, name):
    captions = [figure["caption"] for figure in chapter(name).figures.values()]
    assert any(captions) and not re.findall(r"drawn (?:birds|species)", " ".join(captions))


def test_chapter_2_shows_the_photographs_with_boxes_and_parts(chapter):
    found = chapter("02_birds")
    assert "384 of 384 photographs and 32 of 32 species are here" in found.printed
    assert found.figures["photographs"]["plotted"] == {"boxes": [8, 4], "parts": [8, 15, 3]}
    assert found.figures["part_visibility_cub"]["plotted"] == {"visible": [15]}
    assert "episode_cub" in found.figures


def test_chapter_3_tells_pairs_apart_and_exchanges_nothing(chapter):
    found = chapter("03_prototypical_network")
    assert 0 <= found.values["03.novel.5way1shot"] <= 1
    assert found.printed.count("hard to tell apart: Bird ") == 3
    assert found.figures["pairs_told_apart"]["plotted"] == {"accuracy": [8, 8]}
    assert not named(found, "03.congeners.", "03.drop.", "03.turned.")
    assert not found.figures.keys() & {"congeners_told_apart", "part_effects"}


def test_chapter_4_looks_into_no_planted_world(chapter):
    found = chapter("04_milr_module")
    assert 0 <= found.values["04.through.sharp"] <= 1
    assert "no planted worlds in this run" in found.printed
    assert not named(found, "04.planted.") and "planted" not in found.figures


def test_chapter_5_measures_against_boxes_and_part_locations(chapter):
    found = chapter("05_figures")
    assert found.values["welcome_data"] == "CUB photographs"
    assert found.values["05.place"] == "the box around the bird"
    # Of boxes of 30 to 41 pixels, in squares 1.25 times as wide.
    assert 0.64 * 30 / 41 <= found.values["05.place_share"] <= 0.64
    for kind in ("total", "decision", "redundant"):
        assert found.values[f"05.{kind}.distance"] > 0
    assert 0 <= found.values["05.decision.pointing"] <= 1
    assert {"05.decision.beak", "05.redundant.share.left_eye"} <= found.values.keys()
    assert "no targets for photographs" in found.printed
    regions = ("branch", "leaves", "defining", "used")
    assert not [key for key in found.values if key.split(".")[-1] in regions]


def test_chapter_6_knows_boxes_and_no_used_parts(chapter):
    found = chapter("06_classification")
    assert found.values["06.used"] == "not known for photographs"
    assert found.values["06.accuracy.guessing"] == 1 / 16
    assert found.values["06.decision.tail"] > 0 and found.values["06.decision.energy_ratio"] > 0
    assert "of a classifier of photographed species" in found.figures["patent_figure_2"]["caption"]
    assert not named(found, "06.effect.", "06.decision.defining", "06.decision.used")


def test_chapter_6_trains_a_classifier_of_stl10_where_the_data_set_is(chapter):
    found = chapter("06_classification")
    assert found.values["06.photographs"] == "a classifier of STL-10"
    # Of thirteen test pictures, all of which are also asked through the bottleneck.
    share, clean, through, lost = (
        found.values[f"06.stl10.{name}"] for name in ("accuracy", "clean", "through", "lost")
    )
    for value in (share, clean, through):
        assert 0 <= value <= 1 and 13 * value == pytest.approx(round(13 * value))
    assert share == pytest.approx(clean) and lost == pytest.approx(100 * (clean - through))
    assert found.values["06.stl10.accuracy_low"] <= share <= found.values["06.stl10.accuracy_high"]
    assert found.values["06.said.stl10"].count(": measured") == 4


def test_chapter_6_shows_three_maps_of_photographs_as_of_birds(chapter):
    found = chapter("06_classification")
    # Six of its pictures, at the size of the classifier's.
    total, decision, redundant = (
        found.plotted(f"stl10_{name}")[kind]
        for name, kind in (("total", "total"), ("photographs", "decision"), ("redundant",) * 2)
    )
    assert total.shape == (6, 32, 32) and np.abs(redundant).max() > 0
    assert np.allclose(redundant, total - decision, atol=1e-5)


def test_chapter_7_looks_at_the_part_locations_of_photographs(chapter):
    found = chapter("07_representation")
    assert {"07.decision.beak", "07.decision.left_eye"} <= found.values.keys()
    assert "07.decision.eye" not in found.values
    assert found.values["07.training.energy_ratio.last"] > 0
    assert 0 < found.values["07.training.background_area"] < 1


def test_chapter_7_has_all_three_kinds_along_the_training_and_of_each_way(chapter):
    found = chapter("07_representation")
    looks = ["training.{}.first", "training.{}.last"]
    looks += [f"ways.{way}.{{}}" for way in ("episodic", "supervised", "self_supervised")]
    for look in looks:
        total, decision, redundant = (
            found.values["07." + look.format(kind)] for kind in ("total", "decision", "redundant")
        )
        assert redundant == pytest.approx(total - decision, abs=1e-6) and total != decision
    for name in ("along_training", "by_way"):
        total, decision, redundant = (
            found.plotted(f"{kind}s_{name}") for kind in ("total", "decision", "redundant")
        )
        assert len(total.files) == len(redundant.files) > 1
        for state in total:
            assert np.allclose(redundant[state], total[state] - decision[state], atol=1e-5)


def test_chapter_9_measures_all_methods_against_boxes_and_part_locations(chapter):
    found = chapter("09_evaluation")
    assert "measures of place: box, heat_ratio, pointing, distance\n" in found.printed
    methods = {key.removeprefix("09.ties.") for key in named(found, "09.ties.")}
    assert len(methods) == found.values["09.methods"]
    for method in methods:
        for measure, most in {"box": 1, "heat_ratio": 1, "pointing": 1, "distance": 3}.items():
            value = found.values[f"09.{measure}.{method}"]
            # Two pictures may leave a map without a positive value, but not one of these two.
            assert value == "not defined" or 0 <= value <= most
            assert value != "not defined" or method not in ("mi_lr_capacity", "random")


def test_chapter_9_shares_out_all_maps_of_photographs_alike(chapter):
    found = chapter("09_evaluation")
    assert "representation" not in " ".join(named(found, "09.equal_", "09.said.equal"))
    rows = found.values["09.methods"] - len(cases.SHARED) + 1
    plotted = found.figures["equal"]["plotted"]
    assert plotted["box_as_it_is"] == plotted["heat_ratio_shared_by_itself"] == [rows, 3]
    for way in ("by_total", "by_itself"):
        assert 0 < found.values[f"09.equal_{way}.box.even_map"] < 1
    # The random map, and not the even one, is another when it is shared out by itself.
    of = "09.equal_{}.box.{}"
    for name, same in (("even_map", True), ("random", False)):
        each = {found.values[of.format(way, name)] for way in ("by_total", "by_itself")}
        assert (len(each) == 1) == same


def test_chapter_9_says_what_cannot_be_asked_of_photographs(chapter):
    found = chapter("09_evaluation")
    for words in (
        "no planted worlds in this run",
        "photographs cannot be redrawn with one part changed",
        "networks: none: of photographs no look is known",
        "birds that differ in one part: none",
    ):
        assert words in found.printed
    for key in ("09.said.tail", "09.said.apart"):
        assert "hotographs" in found.values[key] and "none of this was" in found.values[key]
    assert not named(found, "09.planted.", "09.moved.", "09.changed.", "09.apart.", "09.tail.")
    assert not named(found, "09.lift", "09.mass", "09.decision", "09.representation", "09.spared")
    assert not found.figures.keys() & {"planted_all", "tail_encoded", "one_part_apart"}


def named(found, *beginnings):
    return [key for key in found.values if key.startswith(beginnings)]
