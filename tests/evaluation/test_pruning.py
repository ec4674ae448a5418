import numpy as np
import pytest
import torch

from milr.evaluation import pruning
from milr.models.tabular import linear_layers, perceptron

X = torch.from_numpy(np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32))


@pytest.fixture
def network():
    return perceptron((3, 4, 5, 2), seed=0).requires_grad_(False)


def test_removing_a_unit_is_setting_it_to_nothing(network):
    pruned = pruning.without(network, [[1], []])
    hidden = torch.relu(network[0](X))
    hidden[:, 1] = 0
    assert torch.allclose(pruned(X), network[2:](hidden))
    first, second, _ = linear_layers(pruned)
    assert first.weight[1].abs().sum() == first.bias[1] == second.weight[:, 1].abs().sum() == 0


def test_removing_leaves_the_network_as_it_was(network):
    before = network(X)
    pruning.without(network, [[0, 1], [2]])
    assert torch.equal(network(X), before)
    assert torch.equal(pruning.without(network, [[], []])(X), before)


def test_places_for_another_number_of_layers_are_refused(network):
    with pytest.raises(ValueError, match="units of 1 layers.*has 2"):
        pruning.without(network, [[0]])


def test_a_dead_unit_has_no_magnitude_and_costs_nothing(network):
    network[0].weight[2] = 0
    assert pruning.magnitudes(network)[0].argmin() == 2
    (least, _) = pruning.smallest(pruning.magnitudes(network), [1, 0])
    assert least.tolist() == [2]


def test_the_smallest_are_taken_in_each_layer():
    chosen = pruning.smallest([np.array([3.0, 1.0, 2.0]), np.array([0.5, 0.1])], [2, 1])
    assert [one.tolist() for one in chosen] == [[1, 2], [1]]


def test_random_choices_are_of_the_right_number_and_repeat_themselves():
    chosen = pruning.at_random((4, 5), (2, 3), seed=[1, 2])
    assert [len(set(one)) for one in chosen] == [2, 3]
    assert [one.tolist() for one in pruning.at_random((4, 5), (2, 3), [1, 2])] == [
        one.tolist() for one in chosen
    ]


def test_units_go_one_by_one_the_least_first(network):
    gone = []

    def score(pruned):
        first, second, _ = linear_layers(pruned)
        zero = [(layer.bias == 0).nonzero().ravel().tolist()
                for layer in (first, second)]  # fmt: skip
        gone.append(zero)
        return sum(map(len, zero))

    values = [np.array([0.4, 0.3, 0.2, 0.1]), np.array([5.0, 4.0, 3.0, 2.0, 1.0])]
    found = pruning.one_by_one(network, values, score)
    assert found.tolist() == list(range(10))
    assert gone[2] == [[3], [4]] and gone[9] == [[0, 1, 2, 3], [0, 1, 2, 3, 4]]
