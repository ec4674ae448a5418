import pytest
import torch
from torch.nn import functional

from milr.models.learner import Learner, episodes
from milr.models.prototypical import PrototypicalNetwork

WAYS, PER_CLASS = 3, 4


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_each_image_is_the_support_in_turn(metric):
    network = PrototypicalNetwork(metric=metric)
    embeddings = torch.randn(WAYS, PER_CLASS, 8)
    losses, right = [], []
    for k in range(PER_CLASS):
        others = [j for j in range(PER_CLASS) if j != k]
        target = torch.arange(WAYS).repeat_interleave(len(others))
        logits = network.logits(embeddings[:, k : k + 1], embeddings[:, others].flatten(0, 1))
        losses.append(functional.cross_entropy(logits, target))
        right.append((logits.argmax(1) == target).float().mean())
    loss, accuracy = episodes(network, embeddings)
    torch.testing.assert_close(loss, torch.stack(losses).mean())
    torch.testing.assert_close(accuracy, torch.stack(right).mean())


def test_an_image_is_not_compared_with_itself():
    embeddings = torch.randn(WAYS, 1, 8).expand(WAYS, 2, 8).clone()
    # The second image of each class looks like the first of the next: always wrong.
    embeddings[:, 1] = embeddings[:, 0].roll(-1, 0)
    assert episodes(PrototypicalNetwork(), embeddings)[1] == 0


def test_the_classifier_counts_by_its_weight():
    torch.manual_seed(0)
    images, targets = torch.randn(WAYS * 2, 3, 32, 32), torch.arange(WAYS).repeat_interleave(2)
    network = PrototypicalNetwork().eval()
    learner = Learner(network, WAYS, weight=1.0, smoothing=0.0)
    losses = []
    for weight in (0.0, 0.5, 1.0):
        learner.weight = weight
        losses.append(float(learner(images, targets, WAYS)[0].detach()))
    assert losses[0] < losses[1] < losses[2]
    assert losses[1] - losses[0] == pytest.approx(losses[2] - losses[1], rel=1e-4)


def test_the_classifier_learns_its_anchors():
    learner = Learner(PrototypicalNetwork(), WAYS, weight=0.5, smoothing=0.1)
    targets = torch.arange(WAYS).repeat_interleave(2)
    learner(torch.randn(WAYS * 2, 3, 32, 32), targets, WAYS)[0].backward()
    assert all(p.grad is not None and p.grad.any() for p in learner.parameters())
