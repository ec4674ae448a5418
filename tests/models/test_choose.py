import pytest
import torch

from milr.data.images import ImageSet
from milr.models import choose
from milr.models.explainers import Explaining
from milr.models.prototypical import PrototypicalNetwork
from milr.models.settings import Training


class OfGoodOrBadEyes(PrototypicalNetwork):
    """Stands for a trained network: sees the colour of an image, or nothing of it."""

    def __init__(self, settings):
        super().__init__(metric="euclidean")
        self.good = settings.metric == "euclidean"

    def forward(self, images):
        return images.mean((2, 3)) if self.good else torch.zeros(len(images), 3)


@pytest.fixture(autouse=True)
def no_training(monkeypatch):
    monkeypatch.setattr(choose, "train", lambda settings, sets: (OfGoodOrBadEyes(settings), {}))
    monkeypatch.setattr(choose, "load_sets", lambda *_: sets())


def sets():
    colours = torch.randint(0, 256, (6, 3, 1, 1), generator=torch.Generator().manual_seed(0))
    images = colours.to(torch.uint8).repeat_interleave(20, 0).expand(-1, -1, 4, 4)
    targets = torch.arange(6).repeat_interleave(20)
    return {"validation": ImageSet(images, targets, tuple("abcdef"), "plain colours")}


def test_values_are_compared_on_the_same_episodes_of_validation_classes():
    found = choose.compare(Training(), "metric", ["cosine", "euclidean"], sets(), episodes=30)
    assert found["cosine"].shape == (30,)
    assert found["cosine"].mean() == pytest.approx(0.2) and found["euclidean"].min() == 1


def test_a_setting_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="no setting 'colour'.*metric"):
        choose.compare(Training(), "colour", ["red"])


def test_the_command_line_prints_each_value_and_its_distance_from_the_best(capsys):
    choose.main(["metric", "cosine", "euclidean", "--steps", "3"])
    assert capsys.readouterr().out.splitlines() == [
        "metric cosine: 20.0 %, -80.0 +- 0.0 from the best",
        "metric euclidean: 100.0 %, +0.0 +- 0.0 from the best",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["colour", "red"], "no setting 'colour'; give one of data"),
        (["steps", "many"], "invalid literal for int() with base 10: 'many'"),
        (["--explainer", "metric", "cosine"], "no setting 'metric'; give one of training, beta"),
        (["--explainer", "evidence", "layer1"], "evidence is neither a number nor a word"),
    ],
)
def test_the_command_line_refuses_what_it_cannot_set(words, said, capsys):
    with pytest.raises(SystemExit):
        choose.main(words)
    assert said in capsys.readouterr().err


class HalfBlind:
    """Stands for an explainer: through its bottleneck the images with odd numbers are black."""

    def __init__(self, beta):
        self.beta = beta

    def through(self, images):
        seen = images.mean((2, 3))
        seen[1::2] *= 0 if self.beta > 1 else 1
        return seen


def test_explainers_are_compared_by_what_the_decision_loses(monkeypatch, capsys):
    eyes = OfGoodOrBadEyes(Training())
    monkeypatch.setattr(choose, "explain", lambda s, sets: (eyes, HalfBlind(s.beta)))
    found = choose.compare_lost(Explaining(), "beta", [1.0, 4.0], sets(), episodes=30)
    assert found[1.0].abs().max() == 0
    assert found[4.0].mean() > 0.2
    choose.main(["--explainer", "beta", "1", "4"])
    kept, lost = capsys.readouterr().out.splitlines()
    assert kept == "beta 1.0: +0.0 +- 0.0 points of accuracy lost"
    assert lost.startswith("beta 4.0: +")
    with pytest.raises(ValueError, match="no setting 'colour'.*beta"):
        choose.compare_lost(Explaining(), "colour", ["red"])
