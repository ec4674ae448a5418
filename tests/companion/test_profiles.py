"""The numbers a notebook is run with are the profile's, and no others."""

import json
import re
from dataclasses import fields

import pytest

from milr.companion import profiles
from milr.companion.profiles import PROFILES, Run, resolve
from milr.models.explainers import Explaining
from milr.models.settings import Training
from milr.paths import ROOT


def give(checkout, values):
    """Write these in the first notebook's own section. (JSON is YAML.)"""
    text = json.dumps({"a_first": values})
    (checkout.root / "notebooks" / "profiles" / "quick.yml").write_text(text)


def test_the_parameters_cell_is_read_as_written(checkout):
    known = profiles.declared(checkout.first)
    assert known["steps"] == 3 and known["names"] == ("x", "y") and known["limit"] is None


def test_sections_override_common_and_the_data_set_overrides_both(checkout):
    birds = resolve(checkout.first, Run(seed=4))
    assert (birds["steps"], birds["rate"], birds["seed"], birds["profile"]) == (5, 1, 4, "quick")
    assert resolve(checkout.first, Run(data="cub"))["steps"] == 9
    assert "rate" not in resolve(checkout.second, Run())


def test_common_goes_only_to_those_who_declare_it(checkout):
    (checkout.root / "notebooks/profiles/quick.yml").write_text("common: {episodes: 7}\n")
    assert "episodes" not in resolve(checkout.first, Run())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stpes": 5}, "no parameter 'stpes'; it has data, device, limit, names"),
        ({"steps": "five"}, "steps is of type int .default 3., and cannot be 'five'"),
        ({"steps": 5.0}, "of type int"),
        ({"steps": True}, "of type int"),
        ({"rate": "1e-3"}, "of type float"),
        ({"names": "x"}, "of type tuple"),
    ],
)
def test_unknown_and_ill_typed_parameters_are_refused(checkout, given, message):
    give(checkout, given)
    with pytest.raises(ValueError, match=message):
        resolve(checkout.first, Run())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("common: {}\na_first: {steps: [", "quick.yml, line 2: expected the node content"),
        ("a_first: 3\n", "quick.yml: a_first is 3; give parameters and their values"),
    ],
)
def test_a_profile_that_is_broken_is_refused_by_name(checkout, text, message):
    (checkout.root / "notebooks" / "profiles" / "quick.yml").write_text(text)
    with pytest.raises(ValueError, match=message):
        resolve(checkout.first, Run())


def test_whole_numbers_pass_for_floats_and_lists_for_tuples(checkout):
    give(checkout, {"rate": 2, "names": ["z"], "limit": 7})
    given = resolve(checkout.first, Run())
    assert (given["rate"], given["names"], given["limit"]) == (2, ["z"], 7)


def test_a_section_for_no_notebook_is_refused(checkout):
    (checkout.root / "notebooks/profiles/quick.yml").write_text("a_frist: {steps: 1}\n")
    with pytest.raises(ValueError, match="'a_frist'; allowed are common, a_first, b_second"):
        resolve(checkout.first, Run())


def test_a_parameters_cell_that_computes_is_refused(checkout):
    text = checkout.first.read_text().replace("steps = 3", "steps = len(data)")
    checkout.first.write_text(text)
    with pytest.raises(ValueError, match="line 5: only assignments"):
        profiles.declared(checkout.first)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("data", profiles.DATA)
def test_every_profile_of_the_book_fits_its_notebooks(profile, data):
    folder = ROOT / "notebooks"
    sections = profiles.load(folder, profile)
    known = {path: profiles.declared(path) for path in folder.glob("*.ipynb")}
    for path in known:
        resolve(path, Run(data=data, profile=profile))
    for name in sections.get("common") or {}:
        assert name in profiles.DATA or any(name in names for names in known.values())


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("data", profiles.DATA)
def test_what_a_profile_passes_on_is_a_setting_of_what_takes_it(profile, data):
    """`resolve` sees that it is a mapping; a wrong word in it would come to light hours later."""
    takers = {"training": Training, "learning": Training, "fit": Explaining}
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        defaults = profiles.declared(path)
        for name, value in resolve(path, Run(data=data, profile=profile)).items():
            if not isinstance(value, dict):
                continue
            taker = next((takers[word] for word in name.split("_") if word in takers), None)
            known = {field.name for field in fields(taker)} if taker else set(defaults[name])
            assert set(value) <= known, f"{path.stem}: {name}"


def test_smoke_is_what_stands_in_the_parameters_cells():
    assert profiles.load(ROOT / "notebooks", "smoke") == {}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_a_chapter_opens_with_the_smoke_profile_on_drawn_birds(path):
    known = profiles.declared(path)
    assert (known["data"], known["seed"], known["device"], known["profile"]) == (
        "birds", 0, "auto", "smoke",
    )  # fmt: skip
    assert re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem)
