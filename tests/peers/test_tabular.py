import numpy as np
import pytest
import torch

from milr.data import tables
from milr.models.tabular import perceptron
from milr.peers import tabular


@pytest.fixture
def linear():
    """A linear classifier of the drawn table, which explains itself: w times x."""
    split = tables.split(tables.drawn(rows=80), seed=0)
    return perceptron((4, 2), seed=0), split


@pytest.mark.parametrize("ask", [tabular.shapley, tabular.integrated_gradients])
def test_attributions_of_a_linear_network_are_known(linear, ask):
    network, split = linear
    x, y = split.features[split.test], split.table.labels[split.test]
    weight = network[0].weight.detach().numpy()
    expected = np.abs(weight[y] * x).mean(0)
    assert ask(network, split, split.test) == pytest.approx(expected, rel=1e-3)


def test_attributions_leave_the_network_alone(linear):
    network, split = linear
    before = network(torch.from_numpy(split.features))
    tabular.shapley(network, split, split.test)
    assert torch.equal(network(torch.from_numpy(split.features)), before)


def test_raw_information_finds_what_tells_and_repeats_itself():
    table = tables.drawn()
    found = tabular.raw_information(table)
    assert found.argmax() == 0 and found[3] < 0.1 < found[0]
    assert tabular.raw_information(table).tolist() == found.tolist()
