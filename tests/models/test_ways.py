"""Three ways of learning, and what is made of their networks, on images of plain colours."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from torch.nn import functional

from milr.data.episodes import batches_by_class
from milr.data.images import ImageSet, normalise
from milr.models import explainers, ways
from milr.models.classifier import Classifier, CrossEntropy, correct, held_out
from milr.models.explainers import Explaining
from milr.models.learner import episodes
from milr.models.prototypical import PrototypicalNetwork
from milr.models.settings import Training
from milr.models.settle import BATCHES, settle

TINY = Training(
    steps=4, ways=4, per_class=4, warmup=2, lr=1e-3, device="cpu", size=32, precision="32-true",
)  # fmt: skip
EXPLAINING = Explaining(
    TINY, 0.1, steps=3, critic_steps=3, critic_batches=2, bank=16, ways=4, per_class=3, members=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def colours():
    """Six classes that differ in colour alone, with noise."""
    generator = torch.Generator().manual_seed(0)
    colour = torch.rand(6, 3, 1, 1, generator=generator).repeat_interleave(8, 0)
    grain = torch.randn(len(colour), 3, 32, 32, generator=generator)
    images = (150 * colour + 50 + 40 * grain).clamp(0, 255).to(torch.uint8)
    return ImageSet(images, torch.arange(6).repeat_interleave(8), tuple("abcdef"), "colours")


def test_a_classifier_has_a_logit_for_each_class_and_torchvisions_layers():
    network = Classifier(7)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert {"layer1", "layer4", "avgpool", "fc"} <= {name for name, _ in network.named_children()}
    with pytest.raises(ValueError, match="backbone is 'vgg'"):
        Classifier(7, "vgg")
    with pytest.raises(ValueError, match="1 classes; give 2"):
        Classifier(1)


def test_cross_entropy_is_that_of_the_logits():
    network = Classifier(3).eval()
    images, targets = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    loss, accuracy = CrossEntropy(network, 0.0)(images, targets, 3)
    logits = network(images)
    assert loss.isclose(-logits.log_softmax(1)[range(4), targets].mean())
    assert accuracy == (logits.argmax(1) == targets).float().mean()


def test_what_was_learned_from_other_labels_is_another_network(colours):
    shuffled = replace(colours, targets=colours.targets.flip(0))
    assert shuffled.digest == colours.digest
    each = (ways.train(TINY, "supervised", images).network for images in (colours, shuffled))
    once, again = (network.state_dict()["fc.weight"] for network in each)
    assert not torch.equal(once, again)


def test_the_last_images_of_each_class_are_held_out(colours):
    learn, test = held_out(colours, 2)
    assert sorted(learn.tolist() + test.tolist()) == list(range(48))
    assert test[:4].tolist() == [6, 7, 14, 15]
    with pytest.raises(ValueError, match="8 images of each class .* a has 8"):
        held_out(colours, 8)


def test_two_views_that_are_alike_cost_little_and_unlike_ones_much():
    network = PrototypicalNetwork()
    learner = ways.TwoViews(network)
    learner.network = learner.head = torch.nn.Identity()
    apart = torch.eye(8)[:4]
    loss, accuracy = learner(torch.cat([apart, apart]), None, 4)
    expected = -torch.tensor([5.0, *[0.0] * 6]).log_softmax(0)[0]
    assert loss.isclose(expected) and accuracy == 1
    crossed, missed = learner(torch.cat([apart, apart.roll(1, 0)]), None, 4)
    assert crossed > loss + 4 and missed == 0


@pytest.mark.parametrize("way", ways.WAYS)
def test_each_way_learns_and_keeps_what_it_was_on_the_way(colours, way):
    # All classes in every step, so that the losses of two steps can be compared.
    settings = replace(TINY, steps=8, ways=6, metric="cosine")
    learned = ways.train(settings, way, colours, keep=[0, 4, 8])
    assert len(learned.history["loss"]) == 8
    assert sum(learned.history["loss"][-3:]) < sum(learned.history["loss"][:3])
    last, before = learned.kept[8].conv1.weight, learned.kept[4].conv1.weight
    assert last.equal(learned.network.conv1.weight) and not last.equal(before)
    assert not before.equal(learned.kept[0].conv1.weight)
    assert isinstance(learned.network, Classifier) == (way == "supervised")


def test_all_ways_start_from_the_same_weights(colours):
    starts = [
        ways.train(replace(TINY, steps=1), way, colours, keep=[0]).kept[0] for way in ways.WAYS
    ]
    for name, value in starts[0].named_parameters():
        if name != "log_scale":
            assert all(value.equal(other.get_parameter(name)) for other in starts[1:]), name


def test_a_second_training_is_found_and_another_way_is_not(colours, monkeypatch):
    first = ways.train(TINY, "episodic", colours)
    monkeypatch.setattr(ways, "_fit", lambda *_: 1 / 0)
    again = ways.train(replace(TINY, processes=1), "episodic", colours)
    assert first.network.conv1.weight.equal(again.network.conv1.weight)
    for way, settings in (("supervised", TINY), ("episodic", replace(TINY, seed=1))):
        with pytest.raises(ZeroDivisionError):
            ways.train(settings, way, colours)


def test_learning_without_labels_does_not_look_at_them(colours):
    shuffled = replace(colours, targets=colours.targets.flip(0), digest="other labels")
    a, b = (ways.train(TINY, "self-supervised", images) for images in (colours, shuffled))
    assert a.network.conv1.weight.equal(b.network.conv1.weight)


def test_an_unknown_way_or_step_is_refused(colours):
    with pytest.raises(ValueError, match="'by heart'; give one of episodic, supervised"):
        ways.train(TINY, "by heart", colours)
    with pytest.raises(ValueError, match=r"keep has \[5\]; give steps from 0 to 4"):
        ways.train(TINY, "episodic", colours, keep=[5])


@pytest.mark.parametrize("make", [lambda: Classifier(6), PrototypicalNetwork])
def test_a_settled_network_has_fitting_moments_and_temperature(colours, make):
    torch.manual_seed(0)
    network = make()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = settle(network, TINY, colours)
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    assert found.conv1.weight.equal(network.conv1.weight) and not found.training
    assert not found.bn1.running_mean.equal(network.bn1.running_mean)
    drawn = batches_by_class(colours.targets, TINY.ways, TINY.per_class, TINY.seed)
    with torch.no_grad():
        seen = [
            found(normalise(colours.images[indices])).unflatten(0, (TINY.ways, -1))
            for indices in islice(drawn, BATCHES)
        ]
        losses = [sum(_loss(found, e, factor) for e in seen) for factor in (0.2, 1.0, 5.0)]
    assert losses[1] < losses[0] and losses[1] < losses[2]


def _loss(network, embeddings, factor):
    kept = network.log_scale.clone()
    network.log_scale.data += torch.tensor(factor).log()
    loss = float(episodes(network, embeddings)[0])
    network.log_scale.data.copy_(kept)
    return loss


def test_an_explainer_of_a_given_network_keeps_its_decision_and_is_found_again(
    colours, monkeypatch
):
    network = Classifier(6).eval()
    settings = replace(EXPLAINING, representation="fc")
    maps = explainers.explainer_of(network, settings, colours, "classes").explain(
        normalise(colours.images[:2])
    )
    assert maps.decision.shape == (2, 8, 8)
    monkeypatch.setattr(explainers, "_fit", lambda *_: 1 / 0)
    again = explainers.explainer_of(network, settings, colours, "classes")
    assert again.explain(normalise(colours.images[:2])).decision.equal(maps.decision)
    with pytest.raises(ZeroDivisionError):
        explainers.explainer_of(Classifier(6).eval(), settings, colours, "classes")
    with pytest.raises(ValueError, match="decision is 'both'; give one of episodes, classes"):
        explainers.explainer_of(network, settings, colours, "both")


def test_the_objective_is_the_loss_of_the_decision(colours, monkeypatch):
    seen = {}

    def fit(self, batches, objective, **settings):
        images, targets = batch = next(iter(batches))
        outputs = self.model(images)
        seen[settings["steps"]] = (outputs, targets, objective(outputs, batch))
        raise StopIteration

    monkeypatch.setattr(explainers.MILR, "fit", fit)
    for steps, network, decision in (
        (1, Classifier(6).eval(), "classes"), (2, PrototypicalNetwork().eval(), "episodes"),
    ):  # fmt: skip
        with pytest.raises(StopIteration):
            explainers.explainer_of(network, replace(EXPLAINING, steps=steps), colours, decision)
    outputs, targets, loss = seen[1]
    assert loss.isclose(functional.cross_entropy(outputs, targets))
    outputs, _, loss = seen[2]
    assert loss.isclose(episodes(network, outputs.unflatten(0, (4, 3)))[0])


def test_what_is_right_is_counted_image_by_image(colours):
    network = Classifier(6).eval()
    network.fc.weight.data.zero_()
    network.fc.bias.data = torch.tensor([0.0, 0, 1, 0, 0, 0])
    assert correct(network, colours).sum() == 8
