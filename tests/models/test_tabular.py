import numpy as np
import torch
from torch import nn

from milr.data import tables
from milr.models import tabular


def test_a_classifier_of_iris_learns_it_and_repeats_itself():
    split = tables.split(tables.iris(), seed=0)
    network = tabular.train(split, (8,), seed=0, steps=150)
    assert tabular.accuracy(network, split, split.test) > 0.9
    again = tabular.train(split, (8,), seed=0, steps=150)
    other = tabular.train(split, (8,), seed=1, steps=150)
    assert torch.equal(network[0].weight, again[0].weight)
    assert not torch.equal(network[0].weight, other[0].weight)


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    tabular.train(tables.split(tables.drawn(rows=40), 0), (3,), seed=5, steps=2)
    assert torch.equal(torch.rand(2), expected)


def test_units_are_features_hidden_units_and_logits():
    network = tabular.perceptron((4, 5, 3, 2), seed=0)
    features = tables.split(tables.iris(), 0).features
    said = tabular.units(network, features)
    assert [one.shape for one in said] == [(150, 4), (150, 5), (150, 3), (150, 2)]
    assert said[0] is features and said[1].min() == 0 and said[3].min() < 0
    assert np.allclose(said[3], network(torch.from_numpy(features)).detach().numpy())
    assert [type(layer) for layer in network] == [nn.Linear, nn.ReLU] * 2 + [nn.Linear]
