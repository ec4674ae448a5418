"""Small classifiers of tables, linear layers with ReLU between, and what each unit says."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from milr.data.tables import Split


def perceptron(widths: tuple[int, ...], seed: int = 0) -> nn.Sequential:
    """Linear layers from `widths[0]` features over hidden ones to `widths[-1]` logits."""
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for one, other in zip(widths, widths[1:], strict=False):
            layers += [nn.Linear(one, other), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def train(
    split: Split, hidden: tuple[int, ...], seed: int, steps: int = 300, rate: float = 0.01
) -> nn.Sequential:
    """A classifier with these hidden layers, trained with Adam on all rows to learn from.

    It gives logits (n, classes) of features (n, d).
    """
    network = perceptron((split.features.shape[1], *hidden, len(split.table.classes)), seed)
    x = torch.from_numpy(split.features[split.train])
    y = torch.from_numpy(split.table.labels[split.train])
    optimizer = torch.optim.Adam(network.parameters(), rate)
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(network(x), y).backward()
        optimizer.step()
    return network.requires_grad_(False).eval()


@torch.no_grad()
def units(network: nn.Sequential, features: np.ndarray) -> list[np.ndarray]:
    """What the units of each layer say, (n, units) each: features, hidden (after ReLU), logits."""
    values, said = torch.from_numpy(features), [features]
    for layer in network:
        values = layer(values)
        if isinstance(layer, nn.ReLU):
            said.append(values.numpy())
    return [*said, values.numpy()]


@torch.no_grad()
def accuracy(network: nn.Sequential, split: Split, rows: np.ndarray) -> float:
    """Share of these rows whose class has the largest logit; rows: (m,), their places."""
    logits = network(torch.from_numpy(split.features[rows]))
    return float((logits.argmax(1).numpy() == split.table.labels[rows]).mean())


def linear_layers(network: nn.Sequential) -> list[nn.Linear]:
    """The layers with weights, from the features to the logits."""
    return [layer for layer in network if isinstance(layer, nn.Linear)]


def tensors(split: Split, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Features (m, d) float32 and labels (m,) int64 of these rows; rows: (m,), their places."""
    return torch.from_numpy(split.features[rows]), torch.from_numpy(split.table.labels[rows])
