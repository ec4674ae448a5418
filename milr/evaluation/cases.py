"""A network, what explains it, and all maps of the same images, for a comparison of methods."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import milr
from milr import MILR, taps
from milr.cache import cached
from milr.data.images import ImageSet, content_digest, normalise
from milr.evaluation import questions
from milr.evaluation.questions import Questions
from milr.models import prototypical
from milr.models.prototypical import PrototypicalNetwork, embed
from milr.peers import own, registry, schulz
from milr.peers.peer import Peer
from milr.peers.targets import Target

KINDS = ("decision", "total", "redundant", "capacity")
FINE = "MI-LR fine surprise total"
# Shared out by the fine one.
SHARED = {
    FINE: "MI-LR shared total",
    "MI-LR surprise decision": "MI-LR shared decision",
    "MI-LR refined surprise decision": "MI-LR refined shared decision",
}
# Dozens to hundreds of passes for each image.
SLOW = ("integrated gradients", "occlusion", "Per-Sample bottleneck")
_METHOD = Path(milr.__file__).parent
# How an explainer is read, and not how it was fitted: what it learned is part of the key.
SOURCES = (
    Path(schulz.__file__).with_name("__init__.py"),
    *(_METHOD / f"{name}.py" for name in ("explainer", "refining", "readings", "inserted")),
    *(_METHOD / f"{name}.py" for name in ("infonce", "bottleneck", "taps", "maps")),
    # Of what is asked, and how the network answers.
    Path(questions.__file__),
    Path(prototypical.__file__),
)


@dataclass(frozen=True, eq=False)
class Case:
    """One network with its explainers, and what is asked of all methods.

    embeddings: (m, D) of all of `image_set`, whose images `questions` point into
    """

    network: PrototypicalNetwork
    explainers: Sequence[MILR]
    image_set: ImageSet
    questions: Questions
    embeddings: Tensor

    @property
    def images(self) -> Tensor:
        """(n, 3, H, W), the queries, normalised."""
        return normalise(self.image_set.images[self.questions.query])

    @property
    def target(self) -> Target:
        """Log-probability of the right species in each query's own episode, in nats, (n,)."""
        return self.questions.target(self.network, self.embeddings)

    def first(self, count: int) -> "Case":
        """The first questions alone, with an image set of nothing but what they ask of."""
        some = self.questions[:count]
        used = torch.cat([some.query, some.support.flatten()]).unique()
        place = torch.full((len(self.image_set),), -1).scatter(0, used, torch.arange(len(used)))
        questions = Questions(place[some.query], place[some.support], some.right)
        reduced = self.image_set.subset(used)
        return Case(self.network, self.explainers, reduced, questions, self.embeddings[used])

    def on(self, network: PrototypicalNetwork) -> "Case":
        """The same questions and inserted modules, another network."""
        return case(network, self.explainers, self.image_set, self.questions)

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Of the local layer's channels, (C,) each: those that the explainers' noise has."""
        found = self.explainers[0].state()["inserted"]
        return found["local mean"], found["local std"]

    @property
    def grid(self) -> tuple[int, int]:
        """Locations of the local layer, (h, w)."""
        return tuple(self.explainers[0].state()["locations"])

    @property
    def cell(self) -> float:
        """Pixels from one location of the grid to the next."""
        return self.image_set.images.shape[-1] / self.grid[1]

    @property
    def offset(self) -> tuple[float, float]:
        """Where in its cell of the image a location of the grid looks."""
        return self.explainers[0].offset


def case(
    network: PrototypicalNetwork,
    explainers: Sequence[MILR],
    image_set: ImageSet,
    questions: Questions,
) -> Case:
    """The case of these questions; the network embeds the whole image set, (m, D), for it."""
    return Case(network, explainers, image_set, questions, embed(network, image_set.images))


def own_methods(explainer: MILR) -> dict[str, Peer]:
    """MI-LR's maps: from the image alone, and refined for the label that the peers know, too."""
    found = [own.amortised(explainer, kind) for kind in KINDS]
    found += [own.amortised(explainer, kind, "surprise") for kind in KINDS if kind != "capacity"]
    found += [own.refined(explainer, kind) for kind in ("decision", "capacity")]
    found.append(own.refined(explainer, "decision", "surprise"))
    return {peer.name: peer for peer in found}


def peer_methods(
    explainer: MILR, moments: tuple[Tensor, Tensor], readout: schulz.Readout | None
) -> dict[str, Peer]:
    """All peers at the explainer's layer; the Readout bottleneck if one was fitted.

    moments: mean and standard deviation per channel of that layer, (C,) each.
    """
    bottlenecks = [schulz.per_sample(explainer.local, moments)]
    if readout is not None:
        bottlenecks.append(schulz.readout_peer(readout))
    table = registry.peers(explainer.local, explainer.evidence[-1])
    return table | {peer.name: peer for peer in bottlenecks}


def methods(
    one: Case, readout: schulz.Readout | None = None, fine: MILR | None = None
) -> dict[str, list[Peer]]:
    """Name -> the peer, or one for each explainer.

    fine: an explainer of a finer layer, for one more total map (`milr.models.explainers.fine`), and
    for that and the surprise decision maps shared out by it (`milr.maps.shared`)
    """
    each = [own_methods(explainer) for explainer in one.explainers]
    found = {name: [row[name] for row in each] for name in each[0]}
    if fine is not None:
        found[FINE] = [own.marked(own.amortised(fine, "total", "surprise"), FINE, fine)]
        for name, new in SHARED.items():
            offset = fine.offset if name == FINE else one.offset
            found[new] = [own.shared(p, offset, fine, one.cell, new) for p in found[name]]
    peers = peer_methods(one.explainers[0], one.moments, readout)
    return found | {name: [peer] for name, peer in peers.items()}


def maps_of(one: Case, named: Mapping[str, Sequence[Peer]]) -> dict[str, list[Tensor]]:
    """Maps (n, H, W) of the queries by each of the peers, kept in the cache.

    The key is what they are made from: the network's numbers, the images, what is asked of them
    and, for those that were fitted, the numbers of that.
    """
    images, target = one.images, one.target
    device = taps.device_of(one.network).type
    numbers = _numbers(one.network.state_dict())
    asked = content_digest(images, target.name, *target.context, str(one.network), *numbers)
    # Refined masks also depend on beta.
    inserted = [
        content_digest(str(e.beta), *_numbers(e.state()["inserted"])) for e in one.explainers
    ]

    def made(name: str, index: int, peer: Peer) -> Tensor:
        config = {"method": name, "layer": peer.layer, "fitted": peer.fitted}
        config["inserted"] = inserted[index]
        return cached(
            "maps",
            config | {"device": device},
            lambda: peer.maps(one.network, images, target),
            sources=SOURCES,
            data=asked,
        )

    with own.masks_kept():
        return {
            name: [made(name, index, peer) for index, peer in enumerate(row)]
            for name, row in named.items()
        }


def passed(explainer: MILR, images: Tensor) -> Tensor:
    """`MILR.through`, the outputs with only what the bottleneck passes, kept in the cache.

    images: (B, C, H, W), normalised; the outputs (B, ...).
    """
    learned = _numbers(explainer.model.state_dict()) + _numbers(explainer.state()["inserted"])
    return cached(
        "passed",
        {"seed": explainer.seed, "device": taps.device_of(explainer.model).type},
        lambda: explainer.through(images),
        sources=SOURCES,
        data=content_digest(images, *learned),
    )


def slug(name: str) -> str:
    """A method's name as keys of results have it: letters, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _numbers(state: Mapping[str, Tensor]) -> list[Tensor]:
    return [value for value in state.values() if isinstance(value, torch.Tensor)]
