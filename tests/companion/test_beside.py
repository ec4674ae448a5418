"""Two references side by side."""

import numpy as np
import pytest

from milr.companion import beside, claims
from milr.companion.claims import Claim, Evidence, Measured, rule


def measured(values, measure="keep_10"):
    found = {f"09.{measure}.{name}": Measured(v, v - 0.1, v + 0.1) for name, v in values.items()}
    # The paired difference of a method from another is no method.
    return Evidence({**found, f"09.{measure}.a.minus_b": Measured(0.0, 0.0, 0.0)})


SIDES = (
    measured({"a": 0.9, "mi_lr_total": 0.5, "b": 0.5, "c": 0.1, "here_alone": 1.0}),
    measured({"a": 0.4, "mi_lr_total": 0.35, "b": 0.6, "c": 0.2}),
)


def test_methods_of_both_sides_are_taken_and_no_differences():
    found = beside.carried("keep_10", True, SIDES)
    assert found.names == ["a", "mi_lr_total", "b", "c"]
    assert found.values.shape == (2, 4, 3)
    np.testing.assert_allclose(found.values[1, 2], [0.6, 0.5, 0.7])
    assert beside.carried("keep_1", True, SIDES).names == []


def test_firsts_and_places():
    found = beside.carried("keep_10", True, SIDES)
    assert (found.first(0), found.first(1)) == ("a", "b")
    assert found.place("a", 1) == 2
    assert found.place("b", 0) == found.place("mi_lr_total", 0) == 2  # equal: the same place
    less = beside.carried("keep_10", False, SIDES)
    assert less.first(0) == "c" and less.place("a", 0) == 4


def test_methods_whose_interval_leaves_one_out_are_told_from_it():
    found = beside.carried("keep_10", True, SIDES)
    assert found.told_from("mi_lr_total", 0) == 2  # a and c; b is equal, and the rest is itself
    assert found.told_from("a", 1) == 2  # b and c


def test_of_equal_firsts_the_better_one_on_the_other_side_is_named():
    sides = (measured({"a": 0.5, "b": 0.5}), measured({"a": 0.1, "b": 0.2}))
    assert beside.carried("keep_10", True, sides).first(0) == "b"


def test_some_methods_alone():
    some = beside.carried("keep_10", True, SIDES).of(["c", "a"])
    assert some.names == ["c", "a"] and some.first(1) == "a"
    np.testing.assert_allclose(some.values[0, :, 0], [0.1, 0.9])


def test_a_place_of_another_size_is_made_comparable():
    even = beside.inside(Measured(1.0, 0.9, 1.1), 0.5)
    assert (even.value, even.low) == (0, pytest.approx(-0.1))
    for share in (0.1, 0.5):
        assert beside.inside(Measured(1 / share, 0, 1), share).value == pytest.approx(1)


def test_what_a_side_lacks_is_said():
    rows = beside.told({"keep": "09.keep_10.here_alone"}, SIDES)
    assert rows == [["keep", "1 [0.9, 1.1]", "not measured"]]
    assert np.isnan(beside.rows(["09.absent"], SIDES[0])).all()


def test_claims_are_judged_on_both_sides_or_not_at_all():
    def claim(name, text):
        return Claim(name, "paper", ("1",), "method", "says", "asks", (rule(text),))

    both = claim("both", "09.keep_10.a > 0.6")
    one = claim("one", "09.keep_10.here_alone > 0.5")
    never = Claim("never", "paper", ("1",), "method", "says", "asks", untestable="why")
    found = beside.judged([both, one, never], SIDES)
    assert {k: [v.status for v in two] for k, two in found.items()} == {
        both: ["reproduced", "not reproduced"]
    }
    assert beside.judged([both], SIDES, without=["keep_10.a"]) == {}
    assert [beside.in_words(one) for one in found[both]] == ["reproduced", "not reproduced"]
    twice = claims.Verdict("partly", ("met", "missed"))
    assert beside.in_words(twice) == "partly (met, missed)"


@pytest.mark.parametrize(
    ("slug", "name"),
    [
        ("mi_lr_refined_surprise_decision", "MI-LR refined surprise decision"),
        ("grad_cam_on_the_embedding_layer4", "Grad-CAM on the embedding layer4"),
        ("guided_grad_cam", "guided Grad-CAM"),
        ("per_sample_bottleneck", "Per-Sample bottleneck"),
        ("lrp", "LRP"),
    ],
)
def test_names_of_methods_are_readable(slug, name):
    assert beside.method(slug) == name
