"""Families of drawn species that differ in an attribute or two."""

import torch
from torch import nn

from milr.data import birds
from milr.data.images import denormalise
from milr.evaluation import confusable

SPECIES = birds.splits("tail")["novel"][:2]


class Reader(nn.Module):
    """Cheats: reads the class from the first pixel, where the tests write it."""

    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, images):
        written = denormalise(images)[:, 0, 0, 0].long()
        return nn.functional.one_hot(written, 256).float()

    def logits(self, support, query):
        return query @ support.mean(1).T


def written(families):
    """The families with the class written into the first pixel of each picture."""
    families.images[:, 0, 0, 0] = families.targets.to(torch.uint8)
    return families


def test_a_family_has_a_congener_for_each_attribute():
    species = birds.splits()["novel"][3]
    first, *congeners = confusable.family(species)
    assert first == species
    names = list(species.values)
    differing = [
        [name for name in names if other.values[name] != species.values[name]]
        for other in congeners
    ]
    assert differing == [[name] for name in names]


def test_families_follow_each_other_in_the_targets():
    families = confusable.load(SPECIES, per_species=3, size=32)
    assert torch.bincount(families.targets).tolist() == [3] * 8
    expected = [member.name for species in SPECIES for member in confusable.family(species)]
    assert [name.split(" ", 1)[1] for name in families.classes] == expected
    assert len(torch.unique(families.images.flatten(1), dim=0)) == len(families)


def test_who_knows_the_species_makes_no_error_within_a_family():
    families = written(confusable.load(SPECIES, per_species=3, size=32))
    found = confusable.evaluate(Reader(), families, 4, ways=3, queries=2, episodes=5)
    assert found.tolist() == [[1.0] * 5] * 2


def test_an_error_counts_for_the_attribute_in_which_the_two_differ():
    families = written(confusable.load(SPECIES, per_species=3, size=32))
    # As if the congener of the first attribute could not be told from the species itself.
    for start in (0, 4):
        families.images[families.targets == start + 1, 0, 0, 0] = start
    found = confusable.by_attribute(Reader(), families, 4, queries=2, episodes=5)
    assert found.shape == (3, 2, 5)
    assert found.mean(2).tolist() == [[0.5, 0.5], [1.0, 1.0], [1.0, 1.0]]


def test_pairs_that_look_alike_stand_out():
    families = written(confusable.load(SPECIES[:1], per_species=3, size=32))
    families.images[families.targets == 2, 0, 0, 0] = 1
    found = confusable.by_pair(Reader(), families, queries=2, episodes=3)
    expected = torch.ones(4, 4)
    expected[1, 2] = expected[2, 1] = 0.5
    assert torch.equal(found, expected)
