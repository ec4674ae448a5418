import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from milr.data import episodes

TARGETS = torch.arange(20).repeat_interleave(12)


@settings(max_examples=40, deadline=None)
@given(
    ways=st.integers(1, 20),
    shots=st.integers(1, 6),
    queries=st.integers(1, 6),
    seed=st.integers(0, 10**6),
)
def test_rows_are_of_one_class_and_no_image_is_used_twice(ways, shots, queries, seed):
    episode = episodes.sample(TARGETS, ways, shots, queries, seed)
    assert episode.support.shape == (ways, shots) and episode.query.shape == (ways, queries)
    assert (TARGETS[episode.support] == episode.classes[:, None]).all()
    assert (TARGETS[episode.query] == episode.classes[:, None]).all()
    assert len(episode.classes.unique()) == ways
    assert len(torch.cat([episode.support, episode.query], 1).unique()) == ways * (shots + queries)


def test_labels_of_queries_are_their_rows():
    labels = episodes.sample(TARGETS, ways=3, queries=2).labels
    assert labels.tolist() == [[0, 0], [1, 1], [2, 2]]


def test_a_seed_repeats_its_episodes_and_another_does_not():
    def drawn(seed):
        taken = episodes.first(5, episodes.stream(TARGETS, seed=seed))
        return torch.stack([e.support for e in taken]).tolist()

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)
    assert drawn(3)[0] == episodes.sample(TARGETS, seed=3).support.tolist()


def test_every_image_takes_part_in_the_long_run():
    seen = torch.zeros(len(TARGETS), dtype=torch.bool)
    for episode in episodes.first(600, episodes.stream(TARGETS, queries=2)):
        seen[episode.support] = True
        seen[episode.query] = True
    assert seen.all()


def test_classes_can_be_restricted_to_confusable_ones():
    episode = episodes.sample(TARGETS, ways=3, classes=[7, 2, 11])
    assert sorted(episode.classes.tolist()) == [2, 7, 11]


def test_a_batch_holds_as_many_images_of_each_class_side_by_side():
    batch = next(episodes.batches_by_class(TARGETS, ways=16, per_class=4, seed=1))
    assert batch.shape == (64,) and len(batch.unique()) == 64
    by_class = TARGETS[batch].reshape(16, 4)
    assert (by_class == by_class[:, :1]).all()
    assert len(by_class[:, 0].unique()) == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ways": 21}, "21 classes per episode.*there are 20"),
        ({"ways": 2, "classes": [4, 4]}, "2 classes per episode.*there are 1"),
        ({"shots": 12}, "13 different images.*has 12"),
        ({"ways": 1, "classes": [99]}, "class 99 has 0"),
        ({"queries": 0}, "queries is 0; give 1 or more"),
        ({"ways": 0}, "ways is 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_the_first_episode(arguments, message):
    with pytest.raises(ValueError, match=message):
        episodes.stream(TARGETS, **arguments)


def test_a_batch_that_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="13 different images"):
        episodes.batches_by_class(TARGETS, ways=2, per_class=13)
