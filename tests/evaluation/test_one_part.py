"""Birds that differ in one part, and maps whose strongest part is known."""

import pytest
import torch
from torch import nn

from milr import MILR
from milr.data import birds
from milr.data.images import normalise
from milr.evaluation import cases, one_part
from milr.evaluation.interventions import pictures
from milr.evaluation.localisation import Ratio
from milr.maps import Maps
from milr.models.prototypical import PrototypicalNetwork

NOVEL = birds.splits()["novel"][:2]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MILR_CACHE", str(tmp_path / "cache"))


def test_the_look_of_a_free_part_is_that_of_its_picture():
    # In the world of the tail the species has a say; else the picture's seed alone.
    species, seed = pictures("novel", 1, world="tail")[1]
    assert one_part.looks([(species, seed)], "tail").tolist() == [list(species.codes)]
    some = [(s, 7) for s in NOVEL]
    found = one_part.looks(some, "tail")
    assert found.shape == (2, 3) and found[0].equal(found[1])
    drawn = [birds.generate(s, 7, 32) for s in NOVEL]
    lender = birds.Species("tail", tuple(found[0].tolist()))
    for one, (s, seed) in zip(drawn, some, strict=True):
        again = birds.generate(s, seed, 32, replace={"tail": lender})
        assert (again.image == one.image).all()


def test_looks_are_all_there_and_a_part_without_any_is_refused():
    found = one_part.looks(pictures("validation", 8), "tail")
    assert [set(column.tolist()) for column in found.T] == [{0, 1, 2, 3}] * 3
    with pytest.raises(ValueError, match="part is 'legs', which has no attributes; give one of b"):
        one_part.looks([(NOVEL[0], 0)], "legs")


def test_a_probe_reads_what_is_there_and_guesses_what_is_not():
    draw = torch.Generator().manual_seed(0)
    told = torch.randint(4, (400, 2), generator=draw)
    # The first attribute is in the representation, the second is not.
    z = torch.nn.functional.one_hot(told[:, 0], 4) + 0.1 * torch.randn(400, 4, generator=draw)
    right = one_part.probe(z[:300], told[:300], z[300:], told[300:])
    assert right.shape == (100,) and 0.5 < right.mean() < 0.75
    first = one_part.probe(z[:300], told[:300, :1], z[300:], told[300:, :1])
    assert first.mean() > 0.98


def test_lenders_differ_in_every_attribute_of_the_part_and_in_no_other():
    names = list(NOVEL[0].values)
    for part in birds.DEFINING:
        found = one_part.lenders(NOVEL[0], part)
        assert found[0] == NOVEL[0]
        for other in found[1:]:
            differ = [n for n in names if other.values[n] != NOVEL[0].values[n]]
            assert differ == list(birds.attributes_of(part))
    tails = one_part.lenders(NOVEL[0], "tail")
    assert {t.world for t in tails} == {"tail"}
    assert all(len({t.codes[i] for t in tails}) == 4 for i in range(3))
    with pytest.raises(ValueError, match="unknown world 'back'"):
        one_part.lenders(NOVEL[0], "back")


def test_each_bird_of_an_episode_is_asked_for_once_among_the_supports_of_its_own():
    image_set, questions = one_part.ask(NOVEL, "tail", size=32)
    assert len(image_set) == 16 and len(questions) == 8
    for query, support, right in zip(
        questions.query, questions.support, questions.right, strict=True
    ):
        assert support.shape == (4, 1) and query not in support
        assert image_set.targets[support[right, 0]] == image_set.targets[query]
        assert len(set(image_set.targets[support.flatten()].tolist())) == 4
        assert "tail" in image_set.classes[image_set.targets[query]]
    assert len(torch.unique(image_set.images.flatten(1), dim=0)) == 16


def test_the_share_of_images_is_counted_on_the_part_that_differs():
    labels = torch.zeros(2, 6, 6, dtype=torch.uint8)
    tail, beak = birds.PARTS.index("tail"), birds.PARTS.index("beak")
    labels[:, :2, :2], labels[:, 4:, 4:] = tail, beak
    on_tail, on_beak = ((labels == part).float() for part in (tail, beak))
    mixed = torch.stack([on_tail[0], on_beak[1]])
    inferred = Maps(on_beak, on_beak, on_beak, ceiling=5.0)
    refined = Maps(2 * on_tail, on_tail, mixed, ceiling=5.0)
    found = one_part.on_the_difference(inferred, refined, labels, "tail")
    assert found["inferred.decision"].value == found["inferred.capacity"].value == 0
    assert found["refined.decision"].value == 1 and found["refined.capacity"].value == 0.5
    assert found["refined.bits.redundant"].value == pytest.approx(1)
    assert found["chance"].value == pytest.approx(1 / 3)


def test_questions_are_answered_by_the_nearest_support():
    image_set, questions = one_part.ask(NOVEL[:1], "beak", size=32)
    network = PrototypicalNetwork()
    like_support = torch.eye(4).repeat_interleave(2, 0)
    perfect = cases.Case(network, [], image_set, questions, like_support)
    assert one_part.correct(perfect).numerators.tolist() == [1] * 4
    assert perfect.images.equal(normalise(image_set.images[1::2]))
    wrong = like_support.clone()
    wrong[1::2] = wrong[1::2].roll(1, 0)
    swapped = cases.Case(network, [], image_set, questions, wrong)
    assert one_part.correct(swapped).value == 0


class Remembers:
    """An explainer that gives back the objective of what it was asked to refine."""

    def refine(self, images, objective, steps):
        outputs = torch.zeros(len(images), 4, requires_grad=True)
        (gradient,) = torch.autograd.grad(objective(outputs, images), outputs)
        found = gradient.detach()[:, None]
        return Maps(found, found, found, ceiling=float(steps))


def test_refinement_raises_the_probability_of_each_image_s_own_bird():
    image_set, questions = one_part.ask(NOVEL, "beak", size=32)
    rows = torch.eye(4).repeat_interleave(2, 0).repeat(2, 1)
    one = cases.Case(PrototypicalNetwork(metric="euclidean"), [], image_set, questions, rows)
    found = one_part.refined(one, Remembers(), steps=3)
    assert found.ceiling == 3 and len(found.decision) == 8
    # Outputs further towards the right bird's support have a smaller loss.
    gradients = found.decision[:, 0]
    assert (gradients[torch.arange(8), questions.right] < 0).all()
    assert (gradients.argmin(1) == questions.right).all()


class Sees:
    """An explainer whose maps are the brightness of the images."""

    def explain(self, images):
        found = images.mean(1)
        return Maps(found, found, found, ceiling=5.0)


def test_a_region_moves_what_its_parts_move_on_average():
    listed = pictures("novel", 1)
    image_set = birds.load("novel", 1, size=32)
    questions = one_part.Questions(
        torch.tensor([0, 1]), torch.tensor([[[2], [3]]] * 2), torch.tensor([0, 1])
    )
    torch.manual_seed(0)
    one = cases.case(PrototypicalNetwork().eval(), [], image_set, questions)
    regions = {"tail": ("tail",), "head": ("head",), "both": ("tail", "head")}
    found = one_part.of_regions(one, Sees(), listed, regions)
    for what in ("representation", "decision"):
        tail, head, both = (found[f"{what}.moved.{r}"].numerators for r in regions)
        assert (tail > 0).all() and both.allclose((tail + head) / 2)
    bright = one.images.mean(1)[image_set.labels[:2] == birds.PARTS.index("tail")]
    assert found["total.bits.tail"].value == pytest.approx(float(bright.mean()), abs=1e-5)


def test_sets_are_pooled_image_by_image():
    a = {"share": one_part.Ratio(torch.tensor([1.0, 0.0]), torch.ones(2))}
    b = {"share": one_part.Ratio(torch.tensor([1.0]), torch.ones(1))}
    assert one_part.pooled([a, b])["share"].value == pytest.approx(2 / 3)


class Features(nn.Module):
    """All of its local features are its output, and z."""

    def __init__(self):
        super().__init__()
        self.local, self.z = nn.Identity(), nn.Flatten()

    def forward(self, images):
        return self.z(self.local(images))


def test_what_is_shut_is_noise_and_all_else_as_it_was():
    images = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    few = {"steps": 0, "critic_steps": 1, "critic_batches": 1, "moment_batches": 1, "bank": 8}
    explainer = MILR(Features().eval(), "local", "z", members=1)
    explainer.fit([images], lambda *_: None, progress=False, **few)
    there = torch.zeros(8, 16, 16)
    there[:, 0, 1] = 1
    found = one_part.without(explainer, images, there, batch_size=3).view(8, 3, 4, 4)
    corner = torch.zeros(4, 4, dtype=torch.bool)
    corner[:2, :2] = True
    assert torch.equal(found[..., ~corner], images[..., ~corner])
    assert (found[..., corner] != images[..., corner]).all()


def test_queries_of_an_episode_are_added_up():
    each = Ratio(torch.tensor([1.0, 0, 0, 0, 1, 1, 1, 0]), torch.ones(8))
    found = one_part.by_episode({"hit": each})["hit"]
    assert found.numerators.tolist() == [1, 3] and found.denominators.tolist() == [4, 4]
    assert found.value == each.value
