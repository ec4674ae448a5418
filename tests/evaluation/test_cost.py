"""What an explanation costs. No time is compared with a number: machines differ."""

import gc

import pytest
import torch
from torch import nn

from milr.evaluation import cost
from milr.evaluation.cost import Cost

MEGABYTE = 250_000  # float32 numbers


def grow(copies):
    """A method that holds so many megabytes at once, and has freed them when it ends."""

    def method(images):
        held = [torch.zeros(MEGABYTE) for _ in range(copies)]
        held.clear()
        return torch.zeros(1)

    return method


def test_memory_is_the_most_that_is_held_at_once():
    found = cost.measure({"one": grow(1), "five": grow(5)}, torch.zeros(2), repetitions=1)
    assert found["one"].memory == pytest.approx(1e6, abs=100)
    assert found["five"].memory == pytest.approx(5e6, abs=100)


def test_memory_that_was_freed_between_does_not_count():
    def in_turn(images):
        for _ in range(5):
            torch.zeros(MEGABYTE)

    found = cost.measure({"in turn": in_turn}, torch.zeros(2), repetitions=1)
    assert found["in turn"].memory < 2.1e6


def test_views_and_changes_in_place_take_no_memory():
    def method(images):
        held = torch.zeros(MEGABYTE)
        held.view(2, -1).add_(1)[0].mul_(2)
        return held.detach()

    found = cost.measure({"in place": method}, torch.zeros(2), repetitions=1)
    assert found["in place"].memory == pytest.approx(1e6, abs=100)


def test_a_gradient_costs_the_memory_of_what_it_remembers():
    torch.manual_seed(0)
    layers = [part for _ in range(6) for part in (nn.Linear(500, 500), nn.Sigmoid())]
    model = nn.Sequential(*layers).requires_grad_(False)
    images = torch.randn(500, 500)

    def forward(images):
        return model(images)

    def backward(images):
        images = images.clone().requires_grad_()
        return torch.autograd.grad(model(images).sum(), images)

    gc.collect()
    found = cost.measure({"forward": forward, "backward": backward}, images, repetitions=1)
    # Forward holds a layer's inputs and outputs; the gradient needs those of all six sigmoids.
    assert found["forward"].memory <= 3e6 + 1e4 < 6e6 < found["backward"].memory


def test_methods_take_turns_and_time_is_per_image(monkeypatch):
    clock, calls = [0.0], []

    def taking(name, seconds):
        def method(images):
            calls.append(name)
            clock[0] += seconds[min(calls.count(name), len(seconds)) - 1]

        return method

    monkeypatch.setattr(cost.time, "perf_counter", lambda: clock[0])
    # The first call, for the memory, is not timed; then an outlier and two that are alike.
    methods = {"a": taking("a", [1000, 8, 2, 2]), "b": taking("b", [1000, 4, 4, 4])}
    found = cost.measure(methods, torch.zeros(4), fits={"a": 50.0})
    assert calls == ["a", "b"] * 4
    assert (found["a"].seconds, found["b"].seconds) == (0.5, 1.0)
    assert (found["a"].spread, found["b"].spread) == ((0.5, 2.0), (1.0, 1.0))
    assert (found["a"].fit, found["b"].fit) == (50.0, 0.0)


def test_fitting_is_shared_over_the_images_that_are_explained():
    fitted, direct = Cost(0.01, (0.01, 0.02), 0, fit=50.0), Cost(0.1, (0.1, 0.1), 0)
    assert fitted.amortised(100) == pytest.approx(0.51) and direct.amortised(100) == 0.1
    assert fitted.amortised(10_000) == pytest.approx(0.015)


def test_seconds_of_an_unknown_method_are_refused():
    with pytest.raises(ValueError, match="Readout.*the methods are one"):
        cost.measure({"one": grow(1)}, torch.zeros(1), fits={"Readout": 1.0})
