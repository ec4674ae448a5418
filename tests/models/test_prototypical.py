import math
import urllib.error

import pytest
import torch
from torchvision.models import ResNet18_Weights

from milr.data.episodes import first, stream
from milr.data.images import ImageSet
from milr.models import prototypical
from milr.models.prototypical import (
    PrototypicalNetwork,
    accuracies,
    embed,
    evaluate,
    prototypes,
    similarity,
)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return PrototypicalNetwork()


def image_set(classes=6, per_class=5, size=32, noise=5):
    """Images that differ between classes in colour alone, with noise."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(classes, 3, 1, 1, generator=generator).repeat_interleave(per_class, 0)
    grain = torch.randn(len(colours), 3, size, size, generator=generator)
    images = (200 * colours + 25 + noise * grain).clamp(0, 255).to(torch.uint8)
    targets = torch.arange(classes).repeat_interleave(per_class)
    return ImageSet(images, targets, tuple(f"colour {k}" for k in range(classes)), "colours")


SUPPORT = torch.tensor([[[1.0, 0.0], [3.0, 0.0]], [[0.0, 1.0], [0.0, 5.0]]])
QUERY = torch.tensor([[2.0, 0.0], [3.0, 4.0]])


def test_a_prototype_is_the_mean_of_its_class():
    assert prototypes(SUPPORT).tolist() == [[2.0, 0.0], [0.0, 3.0]]


def test_euclidean_logits_are_squared_distances_by_hand(network):
    model = PrototypicalNetwork(metric="euclidean")
    model.log_scale.data.fill_(math.log(0.5))
    expected = -0.5 * torch.tensor([[0.0, 13.0], [17.0, 10.0]])
    torch.testing.assert_close(model.logits(SUPPORT, QUERY), expected)


def test_cosine_logits_by_hand(network):
    expected = network.log_scale.exp() * torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    torch.testing.assert_close(network.logits(SUPPORT, QUERY), expected)


def test_cosine_stays_within_its_bounds_and_knows_no_length():
    x, y = torch.randn(20, 7), torch.randn(30, 7)
    found = similarity(x, y, "cosine")
    assert found.abs().max() <= 1 + 1e-6
    torch.testing.assert_close(similarity(100 * x, y / 100, "cosine"), found)


def test_squared_distances_keep_their_digits_far_from_the_origin():
    x = 1000 + torch.tensor([[0.0, 0.0], [0.01, 0.0]])
    found = -similarity(x, x, "euclidean")
    assert found[0, 0] == 0
    assert found[0, 1] == pytest.approx(1e-4, rel=0.05)


def test_a_large_scale_gives_the_class_of_the_nearest_prototype_probability_one(network):
    model = PrototypicalNetwork(metric="euclidean")
    model.log_scale.data.fill_(5.0)
    assert model.logits(SUPPORT, QUERY).softmax(1).round().tolist() == [[1, 0], [0, 1]]


def test_layers_have_the_names_that_explanations_use(network):
    names = dict(network.named_modules())
    assert {"layer1", "layer2", "layer3", "layer4", "avgpool"} <= names.keys()


@pytest.mark.parametrize(("backbone", "dimension"), [("resnet18", 512), ("resnet50", 2048)])
def test_an_embedding_has_the_dimension_of_its_backbone(backbone, dimension):
    model = PrototypicalNetwork(backbone).eval()
    assert model.dimension == dimension
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, dimension)


def test_embeddings_do_not_depend_on_the_batches(network):
    images = image_set().images
    torch.testing.assert_close(embed(network, images, 30), embed(network, images, 7))


def test_evaluation_leaves_modes_and_statistics_as_they_were(network):
    network.train()
    network.layer3.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    evaluate(network, image_set(), queries=1, episodes=2)
    assert network.training and network.layer2.training and not network.layer3.training
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())


def test_evaluation_leaves_the_mode_when_it_fails(network):
    network.train()
    with pytest.raises(ValueError, match="give .* of torch.uint8"):
        embed(network, torch.zeros(1, 2, 32, 32, dtype=torch.uint8))
    assert network.training


def test_evaluation_gives_an_accuracy_for_each_episode_and_the_same_for_a_seed(network):
    hard = image_set(noise=200)
    found = [evaluate(network, hard, 3, queries=2, episodes=40, seed=s) for s in (3, 3, 4)]
    assert found[0].shape == (40,)
    assert ((found[0] * 6).round() / 6 - found[0]).abs().max() < 1e-6
    assert found[0].equal(found[1]) and not found[0].equal(found[2])


def test_embeddings_that_are_the_class_are_recognised_and_others_are_guessed(network):
    targets = torch.arange(8).repeat_interleave(6)
    drawn = first(100, stream(targets, ways=4, queries=3))
    perfect = torch.eye(8)[targets]
    assert accuracies(network, perfect, drawn).min() == 1
    noise = torch.randn(48, 16, generator=torch.Generator().manual_seed(0))
    assert accuracies(network, noise, drawn).mean() == pytest.approx(0.25, abs=0.06)


def test_episodes_can_be_drawn_from_some_classes_alone(network):
    # Classes 0 and 1 are the same: between them there is only guessing.
    targets = torch.arange(4).repeat_interleave(20)
    images = image_set(4, 20).images
    images[20:40] = images[:20]
    same = ImageSet(images, targets, ("a", "a again", "c", "d"), "twins")
    of_twins = evaluate(network, same, ways=2, queries=5, episodes=60, classes=[0, 1])
    of_others = evaluate(network, same, ways=2, queries=5, episodes=60, classes=[2, 3])
    assert of_twins.mean() < 0.65 < 0.9 < of_others.mean()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"backbone": "resnet19"}, "resnet19.*resnet18, resnet34, resnet50"),
        ({"metric": "manhattan"}, "manhattan.*cosine, euclidean"),
        ({"weights": "places"}, "places.*None, imagenet"),
    ],
)
def test_unknown_choices_are_refused_with_the_known_ones(given, message):
    with pytest.raises(ValueError, match=message):
        PrototypicalNetwork(**given)


def test_embeddings_of_wrong_shape_are_refused(network):
    with pytest.raises(ValueError, match=r"\(5, 2\).*\(ways, shots, D\)"):
        network.logits(torch.zeros(5, 2), QUERY)
    with pytest.raises(ValueError, match="same last dimension"):
        network.logits(SUPPORT, torch.zeros(4, 3))


def test_a_failed_download_says_what_to_do(monkeypatch):
    def unreachable(*_, **__):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(prototypical.torch.hub, "load_state_dict_from_url", unreachable)
    monkeypatch.setattr(ResNet18_Weights.IMAGENET1K_V1.__class__, "get_state_dict", unreachable)
    with pytest.raises(RuntimeError, match=r"resnet18.*no route.*checkpoints.*weights=None"):
        PrototypicalNetwork(weights="imagenet")


def test_imagenet_weights_are_taken_when_they_come(monkeypatch):
    state = {"conv1.weight": torch.full((64, 3, 7, 7), 0.5), "fc.bias": torch.zeros(1000)}
    weights = ResNet18_Weights.IMAGENET1K_V1.__class__
    monkeypatch.setattr(weights, "get_state_dict", lambda *_, **__: state)
    assert (PrototypicalNetwork(weights="imagenet").conv1.weight == 0.5).all()
