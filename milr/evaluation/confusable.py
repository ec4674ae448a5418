"""Drawn species that are easily confused: families of one species and its congeners.

The congeners of a family differ from its first member in one attribute each, one congener for
every attribute. So two congeners differ in two attributes, where species of a split differ in
three or more.
"""

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from milr.cache import cached
from milr.data import birds
from milr.data.birds import Species, loading
from milr.data.episodes import first, stream
from milr.data.images import ImageSet, content_digest
from milr.models.prototypical import PrototypicalNetwork, accuracies, embed


def family(species: Species, seed: int = 0) -> list[Species]:
    """The species, then a congener for each of its attributes in their order, drawn at random."""
    draw = random.Random(f"{species.name} {seed}")
    members = [species]
    for place, (name, own) in enumerate(species.values.items()):
        values = birds.ATTRIBUTES[name][1]
        code = draw.choice([code for code in range(len(values)) if values[code] != own])
        codes = (*species.codes[:place], code, *species.codes[place + 1 :])
        members.append(Species(species.world, codes))
    return members


def load(originals: Sequence[Species], per_species: int, seed: int = 0, size: int = 84) -> ImageSet:
    """Pictures of the families of some species of one world, kept in the cache.

    Targets count through the first family, then the second, and so on; `per_species` pictures of
    each member. No two members of a family share a seed, and so a pose.
    """
    members = [member for species in originals for member in family(species, seed)]
    jobs = [
        (member, birds.picture_seed(seed, f"family {number}", member, picture))
        for number, member in enumerate(members)
        for picture in range(per_species)
    ]

    def make() -> dict:
        images, labels = loading.draw(jobs, size)
        images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        return {"images": images, "labels": torch.from_numpy(labels)}

    world = members[0].world
    config = {"codes": [m.codes for m in members], "world": world, "size": size, "seed": seed,
              "per_species": per_species}  # fmt: skip
    kept = cached("families", config, make, sources=[birds, __file__])
    return ImageSet(
        images=kept["images"],
        targets=torch.arange(len(members)).repeat_interleave(per_species),
        classes=tuple(f"{number} {member.name}" for number, member in enumerate(members)),
        digest=content_digest(kept["images"]),
        labels=kept["labels"],
        part_names=birds.PARTS,
    )


def evaluate(
    model: PrototypicalNetwork,
    families: ImageSet,
    members: int,
    ways: int = 5,
    queries: int = 5,
    episodes: int = 25,
    seed: int = 0,
) -> Tensor:
    """Accuracy in one-shot episodes within a family: (families, episodes), between 0 and 1.

    The episodes of a family share its pictures, so an interval is one over families.
    members: how many species a family has, 1 + the number of attributes of the world
    """
    embeddings = embed(model, families.images)
    found = []
    for start in range(0, len(families.classes), members):
        classes = range(start, start + members)
        drawn = stream(families.targets, ways, 1, queries, seed + start, classes)
        found.append(accuracies(model, embeddings, first(episodes, drawn)))
    return torch.stack(found)


def by_attribute(
    model: PrototypicalNetwork,
    families: ImageSet,
    members: int,
    queries: int = 5,
    episodes: int = 10,
    seed: int = 0,
) -> Tensor:
    """Accuracy of telling a species from its congener, (attributes, families, episodes).

    Two ways, one shot: guessing is right half of the time. Row a is about congeners that differ
    in attribute a alone.
    """
    embeddings = embed(model, families.images)
    table = []
    for attribute in range(1, members):
        found = []
        for start in range(0, len(families.classes), members):
            pair = (start, start + attribute)
            drawn = stream(families.targets, 2, 1, queries, seed + start, pair)
            found.append(accuracies(model, embeddings, first(episodes, drawn)))
        table.append(torch.stack(found))
    return torch.stack(table)


def by_pair(
    model: PrototypicalNetwork,
    images: ImageSet,
    queries: int = 5,
    episodes: int = 20,
    seed: int = 0,
) -> Tensor:
    """Accuracy of telling each two classes apart, (classes, classes), symmetric, 1 for a = b.

    Two ways, one shot, as in `by_attribute`; for any set, such as photographs.
    """
    embeddings = embed(model, images.images)
    count = len(images.classes)
    table = torch.eye(count)
    for a in range(count):
        for b in range(a):
            drawn = stream(images.targets, 2, 1, queries, seed, (a, b))
            found = accuracies(model, embeddings, first(episodes, drawn)).mean()
            table[a, b] = table[b, a] = found
    return table
