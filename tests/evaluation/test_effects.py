"""Maps against effects that were made up, so that the correlation is known."""

import numpy as np
import pytest
import torch

from milr.evaluation import effects
from milr.evaluation.statistics import rank_correlation

NAMES = ("background", "head", "wing", "tail")


@pytest.fixture
def labels():
    """Rows of pixels for the parts, in an order that differs from image to image."""
    rows = torch.stack([torch.arange(4).roll(k) for k in range(4)])
    return rows[:, :, None].expand(-1, -1, 3)


EFFECTS = torch.tensor([0.1, 3.0, 2.0, 0.5])[:, None].expand(-1, 4)


def held(maps, labels):
    return effects.mean_on_parts(maps, labels, NAMES) * effects.areas(labels, NAMES)


def perfect(labels):
    return EFFECTS[:, 0][labels]


def test_a_part_holds_the_sum_of_its_pixels(labels):
    assert held(perfect(labels), labels).tolist() == [pytest.approx([0.3, 9.0, 6.0, 1.5])] * 4


def test_a_map_of_the_effects_follows_them_wholly(labels):
    found = effects.following(held(perfect(labels), labels), EFFECTS)
    assert found.tolist() == pytest.approx([1] * 4)
    less = effects.following(held(-perfect(labels), labels), EFFECTS)
    assert less.tolist() == pytest.approx([-1] * 4)


def test_a_constant_map_follows_nothing(labels):
    assert effects.following(held(torch.ones(4, 4, 3), labels), EFFECTS).tolist() == [0] * 4


def test_where_nothing_has_an_effect_there_is_nothing_to_follow(labels):
    done = EFFECTS.clone()
    done[:, 1] = 0.0
    done[:, 2] = torch.nan
    found = effects.following(held(perfect(labels), labels), done)
    assert found.isnan().tolist() == [False, True, True, False]
    still = effects.spared(EFFECTS, done)
    assert still[:, 1].isnan().all() and still[:, 0].isfinite().all()


def test_a_part_that_an_image_lacks_is_left_out(labels):
    lacking = labels.clone()
    lacking[lacking == 3] = 0
    found = effects.following(held(perfect(lacking), lacking), EFFECTS)
    assert found.tolist() == pytest.approx([1] * 4)


def null(maps, labels):
    found = [effects.following(one, EFFECTS) for one in effects.dealt(maps, labels, NAMES)]
    return torch.stack(found).mean(0)


def test_maps_of_other_images_follow_less(labels):
    assert null(perfect(labels), labels).mean() < 0.2
    # Where all images look alike the null is as good as the map.
    same = labels[:1].expand(4, -1, -1)
    assert null(perfect(same), same).tolist() == pytest.approx([1] * 4)


def test_the_correlation_is_spearman_s_with_ties():
    draw = np.random.default_rng(0)
    a, b = draw.integers(0, 4, (5, 7)).astype(float), draw.normal(size=(5, 7))
    a[1, 3] = np.nan
    found = effects.following(torch.from_numpy(a), torch.from_numpy(b.T))
    assert found.tolist() == pytest.approx(rank_correlation(a, b).tolist())


def test_all_parts_of_all_images_together_are_one_ranking():
    draw = np.random.default_rng(1)
    a, b = draw.normal(size=(6, 5)), draw.normal(size=(6, 5))
    a[2, 0] = np.nan
    found = effects.following_pooled(torch.from_numpy(a), torch.from_numpy(b.T))
    expected = rank_correlation(a.reshape(-1), b.reshape(-1))
    assert found.numerators.shape == (6,) and found.value == pytest.approx(float(expected))
    assert effects.following_pooled(torch.ones(6, 5), torch.from_numpy(b.T)).value == 0


def test_no_draw_of_the_images_follows_more_than_wholly():
    held = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [70.0, 80.0, 90.0]])
    found = effects.following_pooled(held, held.T + torch.tensor([0.0, 0.5, 0.0]))
    assert found.value == pytest.approx(1)
    for drawn in ([0], [1], [0, 0, 2], [2, 2, 2]):
        again = found.numerators[drawn].sum() / found.denominators[drawn].sum()
        assert -1 <= again <= 1 + 1e-12


def pooled(held, done):
    return torch.stack(effects.following_pooled(held, done).pair, -2)


@pytest.mark.parametrize("follow", [effects.following, pooled])
def test_several_readings_of_the_same_images_are_followed_as_each_alone(follow):
    draw = np.random.default_rng(3)
    several, done = torch.from_numpy(draw.normal(size=(3, 6, 5))), draw.normal(size=(5, 6))
    several[1, 2, 4] = torch.nan
    several[2] = 1.0
    done = torch.from_numpy(done)
    assert torch.equal(follow(several, done), torch.stack([follow(one, done) for one in several]))


def test_maps_are_dealt_out_to_other_images(labels):
    maps = torch.arange(4.0)[:, None, None].expand(-1, 4, 3)
    found = effects.dealt(maps, labels, NAMES)
    assert found.shape == (effects.DEALS, 4, 4)
    for one in found:
        assert (one == one[:, :1]).all() and sorted(one[:, 0].tolist()) == [0, 1, 2, 3]
        assert (one[:, 0] != torch.arange(4)).all()


def test_pooling_rewards_a_map_that_is_strong_where_all_effects_are():
    sure, unsure = torch.tensor([[0.1, 0.2, 0.3]]), torch.tensor([[3.0, 2.0, 1.0]])
    done = torch.cat([sure, unsure])
    wrong_places = torch.cat([sure.flip(1), unsure.flip(1)])
    assert effects.following(wrong_places, done.T).tolist() == pytest.approx([-1, -1])
    assert effects.following_pooled(wrong_places, done.T).value > 0.5


def test_a_large_part_holds_more_in_sum_and_not_in_the_mean():
    labels = torch.tensor([[[0, 0, 0], [1, 2, 3]]])
    even = torch.ones(1, 2, 3)
    assert held(even, labels).tolist() == [[3, 1, 1, 1]]
    assert effects.mean_on_parts(even, labels, NAMES).tolist() == [[1, 1, 1, 1]]


def test_one_image_has_no_other():
    with pytest.raises(ValueError, match="two or more"):
        effects.dealt(torch.ones(1, 4, 3), torch.zeros(1, 4, 3).long(), NAMES)


def test_spared_parts_move_the_representation_alone():
    moved = torch.tensor([[1.0], [1.0], [2.0]])
    decided = torch.tensor([[0.0], [3.0], [1.0]])
    assert effects.spared(moved, decided)[:, 0].tolist() == pytest.approx([0.25, -0.5, 0.25])
