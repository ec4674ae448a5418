"""When is what a network knows of a part redundant? Looks of parts, and birds that differ in one.

Whether information is redundant is a matter of the decision. Of birds that differ in one part
alone, that part decides, whatever defined the species in training: also the tail, which does not.
The mask that an explainer infers from an image cannot know the episode; a refined one can.
"""

import random
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional

from milr import MILR
from milr.data import birds
from milr.data.birds import Species
from milr.data.birds.scene import compose
from milr.data.images import ImageSet, content_digest
from milr.evaluation import explained, localisation, perturbation
from milr.evaluation.cases import Case
from milr.evaluation.interventions import Picture
from milr.evaluation.localisation import Ratio
from milr.evaluation.measures import exchanged
from milr.evaluation.questions import Questions
from milr.maps import Maps, concatenate

WAYS = 4  # as many as an attribute has values
AT_ONCE = 32
PENALTIES = np.logspace(0, 5, 6)


def looks(pictures: Sequence[Picture], part: str) -> Tensor:
    """Of each picture, which values the attributes of a part have: (n, attributes) int64.

    Also of a part that does not define species: what it looks like follows from the picture's
    seed. Raises ValueError for a part without attributes.
    """
    names = birds.attributes_of(part)
    if not names:
        parts = dict.fromkeys(owner for owner, _ in birds.ATTRIBUTES.values())
        raise ValueError(
            f"part is {part!r}, which has no attributes; give one of {', '.join(parts)}"
        )
    rows = []
    for species, seed in pictures:
        values = compose(species, seed, {}).values
        rows.append([birds.ATTRIBUTES[name][1].index(values[name]) for name in names])
    return torch.tensor(rows)


def probe(known: Tensor, known_looks: Tensor, asked: Tensor, asked_looks: Tensor) -> Tensor:
    """How many of a part's attributes a linear probe reads from representations: (n,), 0 to 1.

    known, asked: (m, D) and (n, D), representations; the probe learns from the first (ridge
    regression on the values, its penalty chosen by leaving one out) and is tested on the second.
    known_looks, asked_looks: (m, A) and (n, A). Guessing is right in a quarter of the cases.
    """
    right = []
    for values, truth in zip(known_looks.T.numpy(), asked_looks.T.numpy(), strict=True):
        reader = make_pipeline(StandardScaler(), RidgeClassifierCV(alphas=PENALTIES))
        reader.fit(known.double().numpy(), values)
        right.append(reader.predict(asked.double().numpy()) == truth)
    return torch.from_numpy(np.mean(right, axis=0))


def of_regions(
    one: Case,
    explainer: MILR,
    listed: Sequence[Picture],
    regions: Mapping[str, Sequence[str]],
    seed: int = 0,
) -> dict[str, Ratio]:
    """What the maps of the queries hold on regions, and what exchanging their parts does.

    All of `explained.measures`, and, for each part of a region exchanged in turn and averaged,
    "representation.moved.REGION" (1 - cosine) and "decision.moved.REGION" (change of the
    log-probability of the right species, in nats, whatever its sign).
    listed: the pictures of the whole image set; regions: name -> its parts
    """
    labels = one.image_set.labels[one.questions.query]
    masks = explained.region_masks(labels, birds.PARTS, regions)
    found = explained.measures(explainer.explain(one.images), masks)
    parts = list(dict.fromkeys(part for several in regions.values() for part in several))
    done = exchanged(one, listed, parts, seed)
    alone = torch.ones(len(labels), dtype=torch.float64)
    for region, several in regions.items():
        rows = [parts.index(part) for part in several]
        for what in ("representation", "decision"):
            moved = getattr(done, what)[rows].double().mean(0)
            found[f"{what}.moved.{region}"] = Ratio(moved, alone)
    return found


def lenders(species: Species, part: str) -> list[Species]:
    """Four species to take a part from that look different there in every attribute.

    Of a part that defines the species they differ from it in nothing else; any other part is lent
    by the world which has its name. Raises ValueError if there is none.
    """
    own = species
    if part not in species.defining:
        draw = random.Random(f"{species.name} {part}")
        own = draw.choice(birds.splits(part)["novel"])
    changes = [name in birds.attributes_of(part) for name in own.values]
    return [
        Species(
            own.world,
            tuple(
                (code + step) % WAYS if change else code
                for code, change in zip(own.codes, changes, strict=True)
            ),
        )
        for step in range(WAYS)
    ]


def ask(
    originals: Sequence[Species], part: str, seed: int = 0, size: int = 84
) -> tuple[ImageSet, Questions]:
    """Episodes of four birds that differ in one part alone, an episode for each original.

    Each bird is drawn twice, from seeds of its own (so all else varies as it always does): once as
    the support, and once as a query. Gives 8 images and 4 questions for each original.
    """
    drawings = []
    for number, species in enumerate(originals):
        for way, lender in enumerate(lenders(species, part)):
            for which in ("support", "query"):
                chance = f"{part} {number} {way} {which}"
                scene = birds.picture_seed(seed, chance, species, 0)
                drawings.append(birds.generate(species, scene, size, replace={part: lender}))
    images = torch.from_numpy(np.stack([one.image for one in drawings]))
    images = images.permute(0, 3, 1, 2).contiguous()
    image_set = ImageSet(
        images=images,
        targets=torch.arange(len(images) // 2).repeat_interleave(2),
        classes=tuple(f"{s.name}, {part} {way}" for s in originals for way in range(WAYS)),
        digest=content_digest(images),
        labels=torch.from_numpy(np.stack([one.labels for one in drawings])),
        part_names=birds.PARTS,
    )
    place = torch.arange(len(images)).reshape(len(originals), WAYS, 2)
    support = place[:, None, :, :1].expand(-1, WAYS, -1, -1).flatten(0, 1)
    right = torch.arange(WAYS).repeat(len(originals))
    return image_set, Questions(place[..., 1].flatten(), support, right)


def refined(one: Case, explainer: MILR, steps: int = 10) -> Maps:
    """Maps of the questions' images, each with a mask refined for its own episode.

    The objective is minus the log-probability of the right bird; supports stay as they are. Apart
    from the steps, settings are those of `MILR.refine`.
    """
    images, target = one.images, one.target
    found = []
    for rows in torch.arange(len(images)).split(AT_ONCE):
        asked = target[rows]
        found.append(
            explainer.refine(
                images[rows], lambda outputs, _, asked=asked: -asked(outputs).mean(), steps=steps
            )
        )
    return concatenate(found)


def without(explainer: MILR, images: Tensor, there: Tensor, batch_size: int = 64) -> Tensor:
    """The model's outputs, on the CPU, with noise in the explained layer where something is.

    images: (B, 3, h, w), normalised; there: (B, h, w), above 0 where it is. Locations on which any
    of it falls are replaced, and those next to them, which see it as well.
    """
    state = explainer.state()
    moments = tuple(state["inserted"][f"local {name}"] for name in ("mean", "std"))
    run = perturbation.feature_noise(explainer.model, explainer.local, moments)
    on = functional.adaptive_max_pool2d(there[:, None].float(), tuple(state["locations"]))
    left = 1 - functional.max_pool2d(on, 3, stride=1, padding=1)[:, 0]
    pairs = zip(images.split(batch_size), left.split(batch_size), strict=True)
    return torch.cat([run(chunk)(keep) for chunk, keep in pairs])


def on_the_difference(inferred: Maps, refined: Maps, labels: Tensor, part: str) -> dict[str, Ratio]:
    """What maps with the inferred and with the refined mask have on the part that differs.

    MASK.KIND, with "inferred" or "refined" and "capacity" or "decision": on which share of images
    the map's mean is larger there than on any other part. MASK.bits.KIND: its mean there, in bits,
    also of "redundant". "chance": the share for a part drawn at random among those to be seen.
    labels: (B, h, w), an index into `birds.PARTS`.
    """
    masks = explained.region_masks(labels, birds.PARTS, {part: (part,)})
    one = torch.ones(len(labels), dtype=torch.float64)
    found = {}
    for name, maps in (("inferred", inferred), ("refined", refined)):
        sharp = maps.resized(tuple(labels.shape[-2:]))
        for kind in ("capacity", "decision"):
            most = localisation.strongest_part(getattr(sharp, kind), labels, birds.PARTS)
            found[f"{name}.{kind}"] = Ratio(torch.tensor([x == part for x in most]).double(), one)
        bits = explained.measures(maps, masks)
        for kind in ("capacity", "decision", "redundant"):
            found[f"{name}.bits.{kind}"] = bits[f"{kind}.bits.{part}"]
    seen = torch.stack([(labels == p).flatten(1).any(1) for p in range(len(birds.PARTS))], 1)
    there = seen[:, birds.PARTS.index(part)]
    found["chance"] = Ratio(there / seen.sum(1).double(), one)
    return found


def by_episode(found: Mapping[str, Ratio]) -> dict[str, Ratio]:
    """Measures of the queries of `ask`, those of each episode added up: (n,) for n episodes.

    They share their support and what it decides by, so an interval is one over episodes.
    """
    return {
        key: Ratio(*(side.unflatten(0, (-1, WAYS)).sum(1) for side in ratio.pair))
        for key, ratio in found.items()
    }


def correct(one: Case) -> Ratio:
    """On which share of the questions the network is right."""
    target = one.questions.measures(one.network, one.embeddings)["correct"]
    right = target(one.embeddings[one.questions.query]).double()
    return Ratio(right, torch.ones_like(right))


def pooled(several: Sequence[Mapping[str, Ratio]]) -> dict[str, Ratio]:
    """The same measures over all images of several sets together."""
    return {
        key: Ratio(*(torch.cat(side) for side in zip(*(x[key].pair for x in several), strict=True)))
        for key in several[0]
    }
