"""Methods and tasks are called on pages as the prose calls them."""

import numpy as np

from milr.companion import plots_estimators as plots
from milr.data import known
from milr.evaluation import estimation


def test_every_method_has_a_name_of_its_own():
    names = [plots.METHODS[method] for method in estimation.METHODS]
    assert len(set(names)) == len(estimation.METHODS)
    assert plots.METHODS["nwj"] == "NWJ" and plots.METHODS["none"] == "none"


def test_one_nat_and_one_degree_are_singular_and_no_two_tasks_get_the_same_name():
    names = [plots.task_name(name) for name in known.tasks()]
    assert len(set(names)) == len(names)
    assert "normal 1×1, 1 nat" in names and "Student-t 2×2, 1 degree" in names
    assert "normal 1×1, 0.1 nats" in names and "Student-t 3×3, 2 degrees" in names


def test_the_map_of_errors_names_methods_and_marks_what_lies_beyond_its_scale():
    figure = plots.error_map(np.array([[0.2, 3.0], [np.nan, -2.0]]), ["a", "b"], ["infonce", "nwj"])
    axes = figure.axes[0]
    assert [one.get_text() for one in axes.get_xticklabels()] == ["InfoNCE", "NWJ"]
    assert [one.get_text() for one in axes.texts] == ["+", "\N{MINUS SIGN}"]
