"""Fit an explainer to a network that is at hand, once: it is kept in the cache.

`milr.models.explainers` does so for the prototypical networks of `milr.models.train`, which it
trains itself; here the network is given, and so is the kind of decision that it makes.
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from milr import MILR, distributed
from milr.cache import cached
from milr.data.episodes import batches_by_class
from milr.data.images import ImageSet, content_digest, normalise
from milr.models.explainers import SOURCES as METHOD
from milr.models.explainers import Explaining
from milr.models.learner import episodes

DECISIONS = ("classes", "episodes")
SOURCES = (*METHOD, Path(__file__), Path(__file__).with_name("learner.py"))


def explain(network: nn.Module, settings: Explaining, images: ImageSet, decision: str) -> MILR:
    """The explainer fitted to a network on the images that it learned from, from the cache.

    settings: the network's own training only tells device, precision and seed
    decision: "classes", for a network that gives logits of the images' classes, or "episodes", for
              a `PrototypicalNetwork`: which loss the bottleneck has to keep low

    Raises ValueError for another decision.
    """
    if decision not in DECISIONS:
        raise ValueError(f"decision is {decision!r}; give one of {', '.join(DECISIONS)}")
    # The order of numbers in memory that convolutions are fastest with.
    network = network.to(memory_format=torch.channels_last)
    layers = settings.local, settings.representation, settings.evidence
    how = {name: getattr(settings, name) for name in ("beta", "critic", "members", "seed")}
    explainer = MILR(network, *layers, **how)
    training = settings.training
    fabric = distributed.make_fabric(training.device, precision=training.precision)
    explainer.device = str(fabric.device)
    config = asdict(settings) | {"device": fabric.device.type, "decision": decision}
    config["training"] |= {"device": fabric.device.type, "processes": None}
    state = cached(
        "fitted",
        config,
        lambda: _fit(explainer, network, settings, images, decision, fabric).state(),
        sources=SOURCES,
        data=content_digest(images.key, *network.state_dict().values()),
    )
    return explainer.load_state(state)


def _fit(explainer, network, settings: Explaining, images: ImageSet, decision, fabric) -> MILR:
    def of_classes(outputs: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        return functional.cross_entropy(outputs.float(), batch[1].to(outputs.device))

    def of_episodes(outputs: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        return episodes(network, outputs.float().unflatten(0, (settings.ways, -1)))[0]

    return explainer.fit(
        _batches(settings, images),
        of_classes if decision == "classes" else of_episodes,
        steps=settings.steps,
        critic_steps=settings.critic_steps,
        critic_batches=settings.critic_batches,
        hidden=settings.hidden,
        bank=settings.bank,
        fabric=fabric,
    )


def _batches(settings: Explaining, images: ImageSet) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised images with their classes, class by class."""
    seed = settings.training.seed * 1009 + settings.seed
    for indices in batches_by_class(images.targets, settings.ways, settings.per_class, seed):
        yield normalise(images.images[indices]), images.targets[indices]
