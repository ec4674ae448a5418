"""Numbers are written down as evidence, whole, and refused if they say nothing."""

import json
import math
import os

import numpy as np
import pytest

from milr.companion import results


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MILR_RESULTS", str(tmp_path))
    monkeypatch.setenv("MILR_NOTEBOOK", "03_network")
    monkeypatch.setenv("MILR_PROFILE", "full")
    monkeypatch.setenv("MILR_DEVICE", "auto")
    return tmp_path / "results"


def test_results_of_a_notebook_add_up_in_its_file(folder):
    results.record("accuracy", np.float32(0.5), interval=(0.25, np.float64(0.75)), unit="%")
    results.record("species", 120)
    kept = json.loads((folder / "03_network.json").read_text())
    assert kept["profile"] == "full" and kept["notebook"] == "03_network"
    assert kept["machine"]["device"] in ("cpu", "cuda:0", "mps:0")
    assert {"python", "torch", "numpy"} <= set(kept["machine"]["versions"])
    assert kept["values"] == {
        "accuracy": {"value": 0.5, "interval": [0.25, 0.75], "unit": "%"},
        "species": {"value": 120, "interval": None, "unit": ""},
    }


def test_what_another_process_wrote_or_took_away_is_seen(folder):
    path = folder / "03_network.json"
    results.record("first", 1)
    kept = json.loads(path.read_text())
    kept["values"]["other"] = {"value": 2, "interval": None, "unit": ""}
    path.with_suffix(".part").write_text(json.dumps(kept))
    path.with_suffix(".part").replace(path)
    results.record("first", 3)
    values = json.loads(path.read_text())["values"]
    assert {key: one["value"] for key, one in values.items()} == {"first": 3, "other": 2}
    path.unlink()
    results.record('of "words"', "ü\n")
    assert json.loads(path.read_text())["values"] == {
        'of "words"': {"value": "ü\n", "interval": None, "unit": ""}
    }


def test_what_was_recorded_before_is_not_read_again(folder, monkeypatch):
    asked = []
    origin = results.provenance
    monkeypatch.setattr(results, "provenance", lambda: asked.append(1) or origin())
    monkeypatch.setattr(results.json, "loads", lambda text: pytest.fail("it was read again"))
    for number in range(20):
        results.record(f"key {number}", number)
    assert len(asked) == 1


def test_a_result_does_not_wait_for_the_disk(folder, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("it waited"))
    results.record("first", 1)
    assert json.loads((folder / "03_network.json").read_text())["values"]["first"]["value"] == 1


def test_a_result_that_the_disk_refuses_leaves_those_before_it(folder, monkeypatch):
    results.record("first", 1)
    before = (folder / "03_network.json").read_text()

    def refuse(*_):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(OSError, match="No space"):
            results.record("second", 2)
    assert (folder / "03_network.json").read_text() == before
    results.record("third", 3)
    assert set(json.loads((folder / "03_network.json").read_text())["values"]) == {"first", "third"}


@pytest.mark.parametrize(
    ("value", "interval", "named"),
    [(math.nan, None, "not finite"), (1.0, (0.0, math.inf), "not finite"),
     (2.0, (0.0, 1.0), "does not lie in its interval"), (0.5, (1.0, 0.0), "does not lie")],
)  # fmt: skip
def test_numbers_that_say_nothing_are_refused(folder, value, interval, named):
    with pytest.raises(ValueError, match=named):
        results.record("accuracy", value, interval)
    assert not folder.exists()


def test_the_page_gets_the_number_and_its_interval(folder, monkeypatch):
    glued = {}
    monkeypatch.setattr(results, "glue", lambda key, value, display: glued.update({key: value}))
    results.record("accuracy", 0.5, interval=(0.25, 0.75))
    assert glued == {"accuracy": 0.5, "accuracy_low": 0.25, "accuracy_high": 0.75}
