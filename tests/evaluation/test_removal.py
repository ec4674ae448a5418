"""Keeping and dropping on a model of which it is known what it needs."""

import pytest
import torch
from torch import nn

from milr import MILR
from milr.evaluation import perturbation
from milr.evaluation.removal import ends, passed_and_stopped, removal
from milr.peers.targets import Target

GRID = (4, 4)
NEEDED = (1, 2)


class OnePlace(nn.Module):
    """Its output is the one place of its features."""

    def __init__(self):
        super().__init__()
        self.features = nn.Identity()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        return self.scale * self.features(images)[:, 0, *NEEDED]


@pytest.fixture
def found():
    run = perturbation.feature_noise(
        OnePlace().eval(), "features", (torch.zeros(3), torch.full((3,), 1e-3))
    )
    images = torch.ones(2, 3, *GRID)
    measures = {"place": Target(lambda outputs, rows: outputs, (torch.zeros(2),))}
    bounds = ends(run, images, measures, GRID)
    maps = torch.zeros(2, *GRID)
    maps[0][NEEDED] = 1.0  # the first map is right, the second points away
    maps[1] += 1.0
    maps[1][NEEDED] = 0.0
    return removal(run, images, maps, measures, GRID, bounds, (0.25, 0.5))["place"]


def test_the_ends_are_nothing_and_all(found):
    assert found.shares.tolist() == [0, 0.25, 0.5, 1]
    assert found.kept[0].abs().max() < 0.01 and found.dropped[-1].abs().max() < 0.01
    assert found.kept[-1].tolist() == [1, 1] and found.dropped[0].tolist() == [1, 1]


def test_the_right_map_suffices_and_is_needed(found):
    kept, dropped = found.at(0.25)
    assert kept == pytest.approx([1, 0], abs=0.01)
    assert dropped == pytest.approx([0, 1], abs=0.01)


def test_areas_are_means_over_the_shares(found):
    assert found.insertion == pytest.approx([1 - 0.125, 0.25], abs=0.01)
    assert found.deletion == pytest.approx([0.125, 1 - 0.25], abs=0.01)


def test_what_is_stopped_is_what_is_not_passed():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)).eval()
    explainer = MILR(model, "0", "3", members=1)
    batches = [torch.randn(6, 3, *GRID) for _ in range(3)]
    settings = {"steps": 1, "critic_steps": 1, "critic_batches": 1, "bank": 8}
    explainer.fit(batches, lambda outputs, _: outputs.square().mean(), progress=False, **settings)
    images = torch.randn(3, 3, *GRID)
    passed, stopped = passed_and_stopped(explainer, images)
    again = passed_and_stopped(explainer, images)
    assert torch.equal(passed, again[0]) and torch.equal(stopped, again[1])
    # Hardly fitted, the mask is still open: nearly all passes, and little is stopped.
    whole = model(images)
    assert (passed - whole).abs().mean() < 0.3 * (stopped - whole).abs().mean()
