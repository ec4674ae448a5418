"""Taking away what a map points at, on a model of which it is known what it needs."""

import copy

import pytest
import torch
from torch import nn

from milr.evaluation import perturbation
from milr.peers import targets
from milr.peers.targets import Target

NEEDED = ((1, 2), (4, 3), (0, 5))  # the locations that the model's output sums
GRID = (6, 6)
MOMENTS = (torch.zeros(3), torch.full((3,), 0.01))


class Summing(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Identity()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        local = self.features(images)
        return self.scale * sum(local[:, 0, row, column] for row, column in NEEDED)


def outputs(count):
    return {"sum": Target(lambda outputs, rows: outputs, (torch.zeros(count),))}


def oracle(count):
    maps = torch.zeros(count, *GRID)
    for strength, (row, column) in enumerate(NEEDED, 1):
        maps[:, row, column] = strength
    return maps


@pytest.fixture
def run():
    return perturbation.feature_noise(Summing().eval(), "features", MOMENTS)


def images(count=4):
    return 1 + torch.rand(count, 3, *GRID, generator=torch.Generator().manual_seed(0))


def test_an_order_begins_with_the_largest_and_has_every_location_once():
    order = perturbation.ranked(oracle(2), GRID)
    assert order[0, :3].tolist() == [5, 27, 8]
    assert order.sort(1).values[1].tolist() == list(range(36))


def test_equal_values_come_in_random_order_and_not_row_by_row():
    order = perturbation.ranked(torch.zeros(1, 20, 20), (20, 20))[0]
    top = (order[:40] // 20).float()
    assert 6 < top.mean() < 13 and not torch.equal(
        order, perturbation.ranked(torch.zeros(1, 20, 20), (20, 20), seed=1)[0]
    )


def test_a_location_has_the_mean_over_its_pixels():
    maps = torch.zeros(1, 12, 12)
    maps[0, 0, 0] = 3.0  # a single high pixel
    maps[0, 4:6, 4:6] = 1.0  # four of medium height
    assert perturbation.ranked(maps, GRID)[0, :2].tolist() == [14, 0]


def test_a_location_has_the_mean_around_where_it_looks():
    pixels = torch.zeros(1, 24, 24)
    pixels[0, 7:10, 11:14] = 1.0  # around (8, 12)
    where = perturbation.at_locations(pixels, GRID, (0.125, 0.125))
    middle = perturbation.at_locations(pixels, GRID, (0.5, 0.5))
    assert float(middle[0, 2, 3]) == pytest.approx(4 / 16)
    # Its cell has pixels from 6 to 10 and 10 to 14, the outer ones by half.
    assert float(where[0, 2, 3]) == pytest.approx(9 / 16)
    assert where[0].argmax() == 2 * 6 + 3


def test_masks_hold_the_share_that_was_asked_for():
    order = perturbation.ranked(oracle(2), GRID)
    mask = perturbation.first(order, GRID, 0.25)
    assert mask.shape == (2, 6, 6) and mask.sum((1, 2)).tolist() == [9, 9]
    assert mask[0, 4, 3] and not (perturbation.first(order, GRID, 0.0)).any()


def test_keeping_what_is_needed_suffices_and_dropping_it_destroys(run):
    given = images()
    clean = Summing()(given).detach()
    how = (run, given, oracle(4), outputs(4), GRID)
    kept = perturbation.keep(*how, shares=(3 / 36, 0.5))["sum"]
    dropped = perturbation.drop(*how, shares=(3 / 36, 0.5))["sum"]
    assert kept.shape == (2, 4)
    assert torch.allclose(kept, clean.expand(2, 4), atol=1e-5)
    assert (dropped.abs() < 0.1).all()


def test_curves_end_at_the_clean_output_and_begin_at_the_imputed_one(run):
    given = images()
    found = perturbation.curves(run, given, oracle(4), outputs(4), GRID, steps=12)["sum"]
    clean = Summing()(given).detach()
    for curve in (found.most, found.least):
        assert curve.shape == (13, 4) and torch.allclose(curve[-1], clean)
        assert (curve[0].abs() < 0.1).all()
    # A step is three of the 36 locations: the oracle has all it needs after the first.
    assert torch.allclose(found.most[1], clean) and (found.least[-2].abs() < 0.1).all()
    area = 1 - 1 / 24
    assert torch.allclose(found.insertion, area * clean, atol=0.1)
    assert torch.allclose(found.deletion, clean / 24, atol=0.1)


def test_an_oracle_beats_random_maps_and_those_are_worth_nothing(run):
    count = 64
    given = images(count)
    maps = torch.rand(count, *GRID, generator=torch.Generator().manual_seed(2))
    oracles, lucky = (
        perturbation.curves(run, given, m, outputs(count), GRID)["sum"]
        for m in (oracle(count), maps)
    )
    assert (oracles.insertion > lucky.insertion).all()
    assert (oracles.deletion < lucky.deletion).all()
    gains = [(one.insertion - one.deletion).mean() for one in (lucky, oracles)]
    assert gains[0].abs() < 0.15 * gains[1]


def test_batches_of_any_size_give_the_same(run):
    given = images()
    how = (run, given, oracle(4), outputs(4), GRID)
    whole = perturbation.keep(*how)["sum"]
    assert torch.allclose(perturbation.keep(*how, batch_size=3)["sum"], whole)


def test_several_measures_are_taken_of_the_same_runs(run):
    given = images()
    calls = []

    def counted(images):
        outputs = run(images)
        return lambda keep: calls.append(len(keep)) or outputs(keep)

    measures = outputs(4) | {"above 4": Target(lambda o, rows: (o > 4).float(), (torch.zeros(4),))}
    found = perturbation.curves(counted, given, oracle(4), measures, GRID, steps=2)
    assert len(calls) == 6
    assert torch.equal(found["above 4"].most, (found["sum"].most > 4).float())


def test_noise_takes_the_place_of_features_and_has_their_moments():
    moments = (torch.tensor([5.0, -1.0, 0.0]), torch.tensor([2.0, 0.1, 1.0]))
    model = nn.Sequential(nn.Identity(), nn.Flatten()).eval()
    run = perturbation.feature_noise(model, "0", moments)
    given = torch.zeros(2, 3, 40, 40)
    keep = torch.zeros(2, 40, 40, dtype=torch.bool)
    keep[:, :20] = True
    seen = run(given)(keep).unflatten(1, (3, 40, 40))
    assert (seen[:, :, :20] == 0).all() and torch.equal(seen[0], seen[1])
    noise = seen[0, :, 20:].flatten(1)
    assert torch.allclose(noise.mean(1), moments[0], atol=0.3)
    assert torch.allclose(noise.std(1), moments[1], rtol=0.15)


def test_every_image_has_noise_of_its_own_wherever_it_stands_in_a_batch():
    model = nn.Sequential(nn.Identity(), nn.Flatten()).eval()
    run = perturbation.feature_noise(model, "0", (torch.zeros(3), torch.ones(3)))
    given, nothing = images(3), torch.zeros(3, *GRID, dtype=torch.bool)
    noise = run(given)(nothing)
    assert torch.equal(run(given.flip(0))(nothing), noise.flip(0))
    assert torch.equal(run(given[1:2])(nothing[:1]), noise[1:2])
    assert abs(float(torch.corrcoef(noise)[0, 1])) < 0.5
    left = run(given)
    assert torch.equal(left(nothing), left(nothing))


def test_a_share_that_is_no_location_is_refused():
    order = torch.arange(9)[None]
    assert perturbation.first(order, (3, 3), 0.0).sum() == 0
    with pytest.raises(ValueError, match="a share of 0.05 of 9 locations is none"):
        perturbation.first(order, (3, 3), 0.05)


def test_blur_takes_the_place_of_pixels():
    model = nn.Sequential(nn.Identity(), nn.Flatten()).eval()
    run = perturbation.blurred(model, width=0.1)
    given = torch.zeros(1, 3, 24, 24)
    given[..., ::2] = 1.0  # stripes, whose blur is grey
    keep = torch.zeros(1, 6, 6, dtype=torch.bool)
    keep[:, :3] = True
    seen = run(given)(keep).unflatten(1, (3, 24, 24))
    assert torch.equal(seen[:, :, :12], given[:, :, :12])
    assert (seen[:, :, 12:, 6:18] - 0.5).abs().max() < 0.05


@pytest.mark.parametrize("shape", [(96, 10), (10, 96), (96, 1)])
def test_narrow_images_are_blurred_as_far_as_they_go(shape):
    model = nn.Sequential(nn.Identity(), nn.Flatten()).eval()
    given = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    seen = perturbation.blurred(model)(given)(torch.zeros(2, 1, 1, dtype=torch.bool))
    assert seen.unflatten(1, (3, *shape)).std() < 0.6 * given.std()


class Named(Summing):
    def forward(self, images):
        return {"sum": super().forward(images)}


@pytest.mark.parametrize(
    "make", [lambda m: perturbation.feature_noise(m, "features", MOMENTS), perturbation.blurred]
)
def test_a_model_that_gives_no_tensor_is_refused(make):
    run = make(Named().eval())
    with pytest.raises(ValueError, match="the model gives a dict"):
        perturbation.curves(run, images(), oracle(4), outputs(4), GRID, steps=2)


def test_an_image_is_blurred_once_for_all_its_masks(monkeypatch):
    counted = []
    blur = perturbation.gaussian_blur
    monkeypatch.setattr(
        perturbation, "gaussian_blur", lambda x, *how: counted.append(len(x)) or blur(x, *how)
    )
    how = (perturbation.blurred(Summing().eval()), images(), oracle(4), outputs(4), GRID)
    perturbation.keep(*how, shares=(0.1, 0.2, 0.5), batch_size=3)
    assert counted == [3, 1]


def test_the_model_stays_as_it_was(run):
    model = Summing().eval()
    before = copy.deepcopy(model.state_dict())
    for make in (
        lambda: perturbation.feature_noise(model, "features", MOMENTS),
        lambda: perturbation.blurred(model),
    ):
        found = make()(images())(torch.zeros(4, *GRID, dtype=torch.bool))
        assert not found.requires_grad
    assert model.scale.requires_grad and torch.equal(model.scale, before["scale"])
    assert not model.features._forward_hooks


def test_what_is_left_of_a_representation_is_measured_by_its_cosine():
    model = nn.Sequential(nn.Identity(), nn.Flatten()).eval()
    run = perturbation.feature_noise(model, "0", MOMENTS)
    given = images()
    measures = {"cosine": targets.cosine(model(given))}
    found = perturbation.curves(run, given, oracle(4), measures, GRID, steps=4)["cosine"]
    assert torch.allclose(found.most[-1], torch.ones(4)) and (found.most[0].abs() < 0.3).all()
    assert (found.most.diff(dim=0) > 0).all()


def test_one_map_for_each_image_is_asked_for(run):
    with pytest.raises(ValueError, match="4 images and 3 maps"):
        perturbation.keep(run, images(), oracle(3), outputs(4), GRID)
