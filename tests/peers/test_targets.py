"""The scalars that peers explain, against the model's own comparison."""

import pytest
import torch

from milr.models.prototypical import METRICS, PrototypicalNetwork
from milr.peers import targets


@pytest.fixture(params=METRICS)
def model(request):
    torch.manual_seed(0)
    return PrototypicalNetwork(metric=request.param)


def episodes():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(4, 5, 2, 512, generator=generator), torch.randn(4, 512, generator=generator)


def test_an_episode_s_log_probability_is_that_of_the_model(model):
    support, query = episodes()
    right = torch.tensor([0, 4, 2, 2])
    found = targets.episode_log_probability(model, support, right)(query)
    for i in range(4):
        expected = model.logits(support[i], query[i : i + 1]).log_softmax(1)[0, right[i]]
        assert float(found[i].detach()) == pytest.approx(float(expected.detach()), abs=1e-4)


def test_an_episode_is_correct_where_the_model_guesses_right(model):
    support, query = episodes()
    guess = torch.cat(
        [model.logits(s, q[None]).argmax(1) for s, q in zip(support, query, strict=True)]
    )
    right = torch.where(torch.tensor([True, False, True, False]), guess, (guess + 1) % 5)
    assert targets.episode_correct(model, support, right)(query).tolist() == [1, 0, 1, 0]


def test_no_gradient_reaches_the_model_through_a_target(model):
    support, query = episodes()
    query.requires_grad_()
    target = targets.episode_log_probability(model, support, torch.zeros(4, dtype=torch.int64))
    target(query).sum().backward()
    assert query.grad.abs().sum() > 0 and model.log_scale.grad is None


def test_classifiers_are_explained_at_the_given_class():
    logits, classes = torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([0, 1])
    assert targets.class_logit(classes)(logits).tolist() == [1, 5]
    found = targets.class_log_probability(classes)(logits)
    expected = -torch.tensor([1.0, -2.0]).exp().log1p()  # two classes: the logistic function
    assert torch.allclose(found, expected)


def test_the_embedding_has_a_gradient_where_the_cosine_has_none():
    clean = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    slopes = {}
    for make in (targets.along_embedding, targets.cosine):
        z = clean.clone().requires_grad_()
        make(clean)(z).sum().backward()
        slopes[make] = z.grad.norm(dim=1)
    assert torch.allclose(slopes[targets.along_embedding], torch.ones(3), atol=1e-5)
    assert slopes[targets.cosine].max() < 1e-5


def test_rows_of_a_target_can_be_taken_and_repeated():
    target = targets.class_logit(torch.tensor([0, 1, 2]))
    logits = torch.arange(9.0).reshape(3, 3)
    assert target[1:](logits[1:]).tolist() == [4, 8] and len(target[1:]) == 2
    assert target.repeated(2)(torch.cat([logits, logits])).tolist() == [0, 4, 8, 0, 4, 8]


def test_support_of_a_single_episode_is_refused(model):
    with pytest.raises(ValueError, match=r"\(B, ways, shots, D\)"):
        targets.episode_log_probability(model, torch.randn(5, 1, 512), torch.zeros(1))


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ([0, 1], "the classes are list; give a tensor"),
        (torch.zeros(2), r"the classes are \(2,\) torch.float32"),
        (torch.eye(2).long(), r"the classes are \(2, 2\)"),
    ],
)
def test_classes_that_are_no_numbers_of_classes_are_refused(classes, said):
    for make in (targets.class_logit, targets.class_log_probability):
        with pytest.raises(ValueError, match=said):
            make(classes)


def test_classes_that_the_model_lacks_are_refused():
    for make in (targets.class_logit, targets.class_log_probability):
        for wrong in (-1, 3):
            with pytest.raises(ValueError, match="the model has 3; give numbers from 0 to 2"):
                make(torch.tensor([0, wrong]))(torch.randn(2, 3))
        assert make(torch.tensor([0, 2], dtype=torch.int32))(torch.randn(2, 3)).shape == (2,)
        with pytest.raises(ValueError, match="the model gives a dict"):
            make(torch.tensor([0]))({"logits": torch.randn(1, 3)})
