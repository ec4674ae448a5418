"""Do the checks tell a map that depends on the model from one that does not?"""

import copy

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from milr.evaluation import sanity
from milr.models.prototypical import PrototypicalNetwork
from milr.peers.baselines import edges


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    ).eval()


def test_the_cascade_goes_from_the_top_and_keeps_what_it_forgot(model):
    before = copy.deepcopy(model.state_dict())
    changed = []
    for name, ready in sanity.cascade(model):
        state = ready.state_dict()
        differs = {key[0] for key in before if not torch.equal(before[key], state[key])}
        changed.append((name, differs))
    # A fresh batch normalisation is fresh already, so it does not differ.
    assert changed == [("4", {"4"}), ("1", {"4"}), ("0", {"0", "4"})]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_batch_normalisation_forgets_its_statistics(model):
    model[1].running_mean.fill_(7.0)
    ((_, ready),) = sanity.cascade(model, ["1"])
    assert (ready[1].running_mean == 0).all() and not ready.training


def test_a_residual_network_is_taken_from_layer4_to_its_stem():
    names = [name for name, _ in sanity.cascade(PrototypicalNetwork().eval())]
    assert names == ["layer4", "layer3", "layer2", "layer1", "bn1", "conv1"]


def test_the_cascade_is_the_same_for_the_same_seed_alone(model):
    first, again, other = (
        next(sanity.cascade(model, seed=seed))[1][4].weight for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_layers_without_parameters_are_refused(model):
    with pytest.raises(ValueError, match="no parameters"):
        list(sanity.cascade(model, ["2"]))


def test_permuted_labels_are_the_same_labels_in_another_order():
    targets = torch.arange(10).repeat_interleave(20)
    dealt = sanity.permuted(targets, seed=3)
    assert torch.equal(dealt.sort().values, targets) and torch.equal(
        dealt, sanity.permuted(targets, seed=3)
    )
    # A tenth agrees by chance.
    assert (dealt == targets).float().mean() < 0.25


def test_rank_similarity_is_spearman_s_image_by_image():
    maps, others = draw(3, 5, 5), draw(3, 5, 5, seed=1)
    found = sanity.rank_similarity(maps, others)
    for i in range(3):
        expected = stats.spearmanr(maps[i].flatten(), others[i].flatten()).statistic
        assert float(found[i]) == pytest.approx(expected)
    assert torch.allclose(sanity.rank_similarity(maps, maps.exp()), torch.ones(3).double())


def test_a_constant_map_has_no_order_that_could_pass_or_fail():
    maps, others = draw(3, 4, 4), draw(3, 4, 4, seed=1)
    maps[0], others[2] = 1, 0
    found = sanity.rank_similarity(maps, others)
    assert found.isnan().tolist() == [True, False, True]


def test_a_map_of_edges_is_found_out():
    images = draw(2, 3, 12, 12)
    assert torch.allclose(
        sanity.edge_similarity(edges(None, images), images), torch.ones(2).double()
    )
    assert (sanity.edge_similarity(draw(2, 12, 12, seed=9), images).abs() < 0.4).all()


def test_seeds_are_compared_two_by_two():
    a, b = draw(2, 6, 6), draw(2, 6, 6, seed=1)
    found = sanity.seed_similarity([a, a, b])
    assert found.shape == (3, 2) and torch.allclose(found[0], torch.ones(2).double())
    assert torch.equal(found[1], found[2]) and (found[1] < 0.9).all()
    assert np.isfinite(found.numpy()).all()
    with pytest.raises(ValueError, match="two or more"):
        sanity.seed_similarity([a])


def test_attention_forgets_all_that_it_has():
    torch.manual_seed(0)
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0)).eval()
    ((_, ready),) = sanity.cascade(model, ["0"])
    before = dict(model.named_parameters())
    changed = {name for name, one in ready.named_parameters() if not torch.equal(one, before[name])}
    assert {"0.self_attn.in_proj_weight", "0.linear1.weight"} <= changed


def test_what_no_part_resets_is_named():
    model = nn.Sequential(nn.Linear(3, 3))
    model[0].own = nn.ParameterList([nn.Parameter(torch.ones(3))])
    with pytest.raises(ValueError, match="nothing resets 0.own.0, so that this would be remember"):
        list(sanity.cascade(model))


def test_maps_that_still_have_a_gradient_are_compared(recwarn):
    maps = torch.rand(2, 3, 3)
    assert torch.equal(sanity.rank_similarity(maps.clone().requires_grad_(), maps), torch.ones(2))
