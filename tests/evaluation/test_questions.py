"""Every image is asked in an episode that it could be in."""

import pytest
import torch

from milr.evaluation.questions import ask
from milr.models.prototypical import PrototypicalNetwork

LABELS = torch.arange(6).repeat_interleave(4)


@pytest.fixture(scope="module")
def questions():
    return ask(LABELS, 20, ways=3, shots=2, seed=1)


def test_no_image_is_asked_twice_or_supports_itself(questions):
    assert len(set(questions.query.tolist())) == 20
    assert not (questions.support == questions.query[:, None, None]).any()


def test_the_right_row_alone_holds_the_query_s_class(questions):
    rows = LABELS[questions.support]
    assert (rows == rows[..., :1]).all()
    same = rows[..., 0] == LABELS[questions.query][:, None]
    assert torch.equal(same.float().argmax(1), questions.right)
    assert (same.sum(1) == 1).all()
    assert questions.right.unique().tolist() == [0, 1, 2]


def test_the_same_seed_asks_the_same(questions):
    again = ask(LABELS, 20, ways=3, shots=2, seed=1)
    other = ask(LABELS, 20, ways=3, shots=2, seed=2)
    assert torch.equal(again.support, questions.support)
    assert not torch.equal(other.query, questions.query)


def test_parts_ask_other_images(questions):
    parts = [ask(LABELS, 8, ways=3, seed=1, part=part) for part in range(3)]
    asked = torch.cat([one.query for one in parts])
    assert sorted(asked.tolist()) == list(range(24))
    assert torch.equal(asked[:20], questions.query)
    # Nor are they shown the same answers.
    assert all(not torch.equal(parts[0].right, other.right) for other in parts[1:])
    assert all(not torch.equal(parts[0].support, other.support) for other in parts[1:])
    with pytest.raises(ValueError, match="takes 32 images of 3 classes; there are 24"):
        ask(LABELS, 8, ways=3, part=3)


def test_the_target_is_the_networks_own_log_probability(questions):
    torch.manual_seed(0)
    network = PrototypicalNetwork()
    embeddings = torch.randn(24, 512)
    found = questions.measures(network, embeddings)
    one = questions[:1]
    logits = network.logits(embeddings[one.support[0]], embeddings[one.query])
    expected = logits.log_softmax(1)[0, one.right[0]]
    outputs = embeddings[questions.query]
    assert found["log-probability"](outputs)[0] == pytest.approx(float(expected.detach()), rel=1e-4)
    assert found["correct"](outputs)[0] == (logits.argmax(1) == one.right).float()
    assert found["cosine"](outputs).tolist() == pytest.approx([1] * 20)


def test_too_many_are_refused():
    with pytest.raises(ValueError, match="takes 25 images of 5 classes; there are 24 of 6"):
        ask(LABELS, 25)


def test_a_class_with_too_few_images_is_named():
    with pytest.raises(ValueError, match="class 2 has 1 images; give 1 and, for the query, one"):
        ask(torch.tensor([0] * 6 + [1] * 6 + [2]), 13, ways=3)
