"""What representations know, as numbers: of several networks' maps on the same images.

For the chapters that hold networks side by side: a classifier's parts, a network along its
training, and networks that learned in different ways. Each number is a `Ratio`, so that
`explained.interval` and `explained.difference` take them.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from milr import MILR
from milr.data import birds, episodes
from milr.data.images import ImageSet, normalise
from milr.evaluation import effects, explained, localisation
from milr.evaluation.interventions import Movement
from milr.evaluation.localisation import Ratio
from milr.maps import Maps, resize
from milr.models.prototypical import PrototypicalNetwork, accuracies, embed

SCENE = ("background", "branch", "leaves")


class Known(NamedTuple):
    """What a network makes of images: accuracy in episodes, and what it encodes where.

    accuracy: (episodes,) between 0 and 1; maps: of the images that were asked for; shut: whether
    the bottleneck lets next to nothing through (`MILR.shut`)
    """

    accuracy: Tensor
    maps: Maps
    shut: bool


def look(
    network: PrototypicalNetwork,
    explainer: MILR,
    images: ImageSet,
    asked: Tensor,
    *,
    draws: int,
    episode_count: int,
    seed: int = 0,
) -> Known:
    """Maps of the images at `asked` (n,), and accuracy in 5-way 1-shot episodes of all."""
    stream = episodes.stream(images.targets, ways=5, shots=1, queries=6, seed=seed)
    tested = episodes.first(episode_count, stream)
    accuracy = accuracies(network, embed(network, images.images), tested)
    maps = explainer.explain(normalise(images.images[asked]), draws=draws)
    return Known(accuracy, maps, explainer.shut)


def regions(images: ImageSet, used: Sequence[str] = ()) -> dict[str, Tensor]:
    """Masks (n, h, w) to hold maps of these images against: "bird", "background" and parts.

    Drawn birds also have "body", "defining" and, if parts are named, "used"; photographs have the
    box for the bird, and discs around the points, if there are any, for parts. Regions that no
    image has are left out. Raises ValueError for images without labels or boxes.
    """
    if images.labels is not None:
        groups = {part: (part,) for part in images.part_names}
        groups["bird"] = [part for part in images.part_names if part not in SCENE]
        groups |= {"body": ("belly", "back"), "defining": birds.DEFINING, "used": used}
        there = {name: set(parts) & set(images.part_names) for name, parts in groups.items()}
        there = {name: sorted(parts) for name, parts in there.items() if parts}
        return explained.region_masks(images.labels, images.part_names, there)
    if images.boxes is None:
        raise ValueError("these images have neither labels nor boxes to hold a map against")
    size = tuple(images.images.shape[-2:])
    box = localisation.box_masks(images.boxes, size)
    if images.parts is None:
        return {"bird": box, "background": 1 - box}
    discs = localisation.part_discs(images.parts, size)
    named = zip(images.part_names, discs.unbind(1), strict=True)
    parts = {name: mask for name, mask in named if mask.any()}
    return {"bird": box, "background": 1 - box} | parts


def measures(maps: Maps, masks: Mapping[str, Tensor]) -> dict[str, Ratio]:
    """Those of `explained.measures`, and of each kind, over the whole picture:

    mean: bits of an average location, with signs
    area: share of the locations on which half of the positive map lies (`half_area`)

    maps: of B images, (B, H, W); masks: (B, h, w) each.
    """
    found = explained.measures(maps, masks)
    for kind in explained.KINDS:
        values = getattr(maps, kind).double()
        mean = values.mean((1, 2))
        found[f"{kind}.mean"] = Ratio(mean, torch.ones_like(mean))
        found[f"{kind}.area"] = half_area(values)
    return found


def half_area(maps: Tensor) -> Ratio:
    """Share of a map's locations, the largest first, that hold half of its positive values.

    maps: (B, H, W). A map without a positive value counts for nothing.
    """
    largest = maps.flatten(1).clamp(min=0).double().sort(descending=True).values
    below = largest.cumsum(1) < largest.sum(1, keepdim=True) / 2
    some = (largest[:, 0] > 0).double()
    return Ratio((below.sum(1) + 1) / largest.shape[1] * some, some)


def drops(moved: Movement, right: Tensor) -> Tensor:
    """By how much the log-probability of the right class falls, (P, n) in nats, for a classifier.

    moved: its logits with each of P parts changed; right: (n,) int64
    """
    row = torch.arange(len(right))
    clean = moved.clean.log_softmax(-1)[row, right]
    return clean - moved.changed.log_softmax(-1)[:, row, right]


def follow(
    maps: Maps, labels: Tensor, names: Sequence[str], effect: Tensor, seed: int = 0
) -> dict[str, Ratio]:
    """Rank correlation over the parts of each image of maps with what exchanging them does.

    What a map holds on a part is the sum of its values there. effect: (P, n), how strongly each
    exchange moves the decision; other arguments as for `effects.mean_on_parts`. Beside
    "effect.KIND" stand two nulls: "effect.random", of random maps, and "effect.dealt KIND", of
    other images' maps of that kind.
    """
    generator = torch.Generator().manual_seed(seed)
    size = tuple(labels.shape[-2:])
    sharp = maps.resized(size)
    tried = {kind: getattr(sharp, kind) for kind in explained.KINDS}
    tried["random"] = resize(torch.rand(maps.total.shape, generator=generator), size, maps.offset)
    areas = effects.areas(labels, names)
    found = {
        kind: effects.following(effects.mean_on_parts(values, labels, names) * areas, effect)
        for kind, values in tried.items()
    }
    for kind in explained.KINDS:
        held = effects.dealt(tried[kind], labels, names, seed) * areas
        found[f"dealt {kind}"] = effects.following(held, effect).mean(0)
    # An image on which no exchange does anything counts for nothing.
    return {
        f"effect.{name}": Ratio(f.nan_to_num(), f.isfinite().double()) for name, f in found.items()
    }


def side_by_side(
    named: Mapping[str, Sequence[Sequence[Mapping[str, Ratio]]]],
) -> list[list[dict[str, Ratio]]]:
    """Tables of several networks on the same images as one, with `NAME: ` before each measure.

    Then `explained.difference` compares measures of two of them.
    """
    first = next(iter(named.values()))
    return [
        [
            {f"{name}: {key}": ratio for name, t in named.items() for key, ratio in t[n][k].items()}
            for k in range(len(row))
        ]
        for n, row in enumerate(first)
    ]
