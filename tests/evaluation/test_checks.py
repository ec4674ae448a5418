"""No measure gives a number for what it was not meant for."""

import math

import pytest
import torch
from torch import nn

from milr.evaluation import agreement, boxes, heat, localisation, perturbation, removal, sanity
from milr.peers.targets import class_logit

MASKS = torch.zeros(3, 8, 8)
MASKS[:, 2:4, 2:6] = 1
BOXES = torch.tensor([[2.0, 2.0, 4.0, 2.0]] * 3)
LABELS = MASKS.long()


def maps(count=3):
    return torch.rand(count, 8, 8, generator=torch.Generator().manual_seed(0))


MEASURES = {
    "lift": lambda m: localisation.lift(m, MASKS).value,
    "positive_share": lambda m: localisation.positive_share(m, MASKS).value,
    "pointing": lambda m: localisation.pointing(m, MASKS),
    "part_means": lambda m: localisation.part_means(m, LABELS, ["a", "b"]),
    "strongest_part": lambda m: localisation.strongest_part(m, LABELS, ["a", "b"]),
    "distance_to_parts": lambda m: localisation.distance_to_parts(m, torch.ones(3, 1, 3), (8, 8)),
    "rank_accuracy": lambda m: heat.rank_accuracy(m, MASKS),
    "effective_heat_ratio": lambda m: heat.effective_heat_ratio(m, MASKS),
    "box_accuracy": lambda m: boxes.box_accuracy(m, BOXES, (8, 8)),
    "box_overlap": lambda m: boxes.box_overlap(m, BOXES, (8, 8)),
    "rank_similarity": lambda m: sanity.rank_similarity(maps(), m),
    "pairwise_correlation": lambda m: agreement.pairwise_correlation([maps(), m]),
}


@pytest.mark.parametrize("name", MEASURES)
def test_maps_that_are_not_finite_or_too_few_are_refused(name):
    MEASURES[name](maps())
    for bad in (math.nan, math.inf):
        wrong = maps()
        wrong[1, 2, 3] = bad
        with pytest.raises(ValueError, match="1 of 192 values of the maps are not finite"):
            MEASURES[name](wrong)
    with pytest.raises(ValueError, match="one of each for each image|of one shape"):
        MEASURES[name](maps(1))


def test_masks_and_labels_in_another_unit_are_refused():
    for measure in (localisation.lift, localisation.pointing, heat.rank_accuracy):
        with pytest.raises(ValueError, match="the masks lie between 0 and 255; give Booleans"):
            measure(maps(), 255 * MASKS)
        with pytest.raises(ValueError, match=r"the masks have shape \(3, 1, 8, 8\)"):
            measure(maps(), MASKS[:, None])
    with pytest.raises(ValueError, match="the masks lie between 0 and 255"):
        localisation.area_share(255 * MASKS)
    with pytest.raises(ValueError, match="there is a label -1"):
        localisation.part_means(maps(), LABELS - 1, ["a", "b"])
    with pytest.raises(ValueError, match="give whole numbers"):
        localisation.part_means(maps(), LABELS + 0.5, ["a", "b"])


def test_boxes_that_hold_nothing_are_refused():
    for measure in (boxes.box_accuracy, boxes.box_overlap):
        with pytest.raises(ValueError, match="a box has no width or height"):
            measure(maps(), 0 * BOXES, (8, 8))
        with pytest.raises(ValueError, match="3 maps and 1 boxes"):
            measure(maps(), BOXES[:1], (8, 8))


def test_a_constant_map_correlates_with_nothing_however_its_mean_is_rounded():
    with pytest.raises(ValueError, match="a map is constant"):
        agreement.pairwise_correlation([maps(), torch.full((3, 8, 8), 0.1)])
    found = agreement.pairwise_correlation(m for m in (maps(), 2 * maps()))
    assert float(found) == pytest.approx(1)


@pytest.fixture(scope="module")
def asked():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(256, 2)).eval()
    right = {"logit": class_logit(torch.tensor([0, 1, 1]))}
    return perturbation.feature_noise(model, "0", (torch.zeros(4), torch.ones(4))), right


def test_what_is_taken_away_by_a_wrong_map_or_share_is_refused(asked):
    run, right = asked
    images, grid = torch.randn(3, 3, 8, 8), (8, 8)
    broken = torch.full((3, 8, 8), math.nan)
    more = {"logit": class_logit(torch.zeros(6, dtype=torch.long))}
    for take in (perturbation.keep, perturbation.drop):
        with pytest.raises(ValueError, match="not finite"):
            take(run, images, broken, right, grid)
        with pytest.raises(ValueError, match="3 images and 3 maps and 6 targets"):
            take(run, images, maps(), more, grid)
        for shares in ((20,), (-0.1,), (math.nan,)):
            with pytest.raises(ValueError, match="give numbers from 0 to 1"):
                take(run, images, maps(), right, grid, shares)
        with pytest.raises(ValueError, match="measures is a Target; give names"):
            take(run, images, maps(), right["logit"], grid)
    with pytest.raises(ValueError, match="not finite"):
        perturbation.curves(run, images, broken, right, grid)
    with pytest.raises(ValueError, match="steps is 0"):
        perturbation.curves(run, images, maps(), right, grid, steps=0)


def test_curves_are_asked_at_rising_shares_and_read_where_they_were_asked(asked):
    run, right = asked
    images, grid = torch.randn(3, 3, 8, 8), (8, 8)
    bounds = removal.ends(run, images, right, grid)
    for shares in ((0.5, 0.1), (0.1, 0.1)):
        with pytest.raises(ValueError, match="the smallest first"):
            removal.removal(run, images, maps(), right, grid, bounds, shares)
    found = removal.removal(run, images, maps(), right, grid, bounds, (0.1, 0.5))["logit"]
    assert torch.equal(found.at(0.5)[0], found.kept[2])
    with pytest.raises(ValueError, match="share is 0.3; it was measured at 0, 0.1, 0.5, 1"):
        found.at(0.3)


def test_noise_of_another_layer_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten()).eval()
    run = perturbation.feature_noise(model, "0", (torch.zeros(1), torch.ones(1)))
    with pytest.raises(ValueError, match="moments of 1 channels, and layer '0' has 4"):
        run(torch.randn(2, 3, 8, 8))(torch.ones(2, 8, 8))


def test_measures_of_places_refuse_tokens():
    tokens, masks = torch.rand(2, 5), torch.ones(2, 5, 5)
    square = torch.tensor([[0.0, 0.0, 2.0, 2.0]]).expand(2, -1)
    with pytest.raises(ValueError, match=r"maps of shape \(2, 5\) have no places in the image"):
        localisation.lift(tokens, masks)
    with pytest.raises(ValueError, match="no places in the image"):
        localisation.part_means(tokens, masks.long(), ("a", "b"))
    with pytest.raises(ValueError, match="no places in the image"):
        boxes.box_accuracy(tokens, square, (5, 5))
