"""Fit an explainer to a trained network, once: it is kept in the cache.

python -m milr.models.explainers --network-data birds --beta 1 --seed 0
fabric run --accelerator=cuda --devices=4 milr/models/explainers.py --beta 1
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import milr
from milr import MILR, distributed
from milr.data.episodes import batches_by_class
from milr.data.images import ImageSet, content_digest, normalise
from milr.models.learner import episodes
from milr.models.prototypical import PrototypicalNetwork
from milr.models.settings import SHARP, Training, load_sets, recipe
from milr.models.train import once, train

_HERE = Path(milr.__file__).parent
METHOD = tuple(
    f"{name}.py"
    for name in (
        "infonce",
        "readings",
        "bottleneck",
        "taps",
        "inserted",
        "feeding",
        "fitting",
        "explainer",
        "distributed",
    )
)
OBJECTIVE = ("models/learner.py", "models/prototypical.py", "data/episodes.py", "data/images.py")
SOURCES = (*(_HERE / name for name in METHOD + OBJECTIVE), Path(__file__))
DECISIONS = ("episodes", "classes")


@dataclass(frozen=True)
class Explaining:
    """Settings of an explainer: section 4.1 of the paper, layer1 against avgpool.

    training: of the network that is explained. beta: price of a nat per element; for each data
    set `FAITHFUL` leaves the decision alone, `SHARP` lets only the most needed through. steps,
    critic_steps: of the mask and of the critics. ways, per_class: images of a step; every image in
    turn is the support.
    critic: linear ones read less than two-layer ones (their bounds are looser), but on validation
    species their decision maps point at the defining parts better.
    masks: two depend less on their seeds after 500 steps, which chapter 4 measures; after a fifth
    of these they have learned too little, and may close too far.
    """

    training: Training = field(default_factory=Training)
    beta: float = SHARP["birds"]
    critic: str = "linear"
    steps: int = 150
    critic_steps: int = 300
    critic_batches: int = 120
    hidden: float = 0.8
    members: int = 4
    masks: int = 1
    bank: int = 256
    ways: int = 16
    per_class: int = 3
    seed: int = 0
    local: str = "layer1"
    representation: str = "avgpool"
    evidence: tuple[str, ...] = ("layer1", "layer2", "layer3", "layer4")


def fine(settings: Explaining, **changes) -> Explaining:
    """The settings with which the total map alone is read, at the first layer that has maps.

    There are four times the places of layer1 there. The bottleneck stays open (no steps), since
    what it lets through is not asked. Chosen on validation species (`milr.evaluation.tried`).
    """
    here = {"local": "relu", "evidence": ("relu",), "critic": "two-layer", "steps": 0, "bank": 128}
    return replace(settings, **here | changes)


def explain(
    settings: Explaining, sets: dict[str, ImageSet] | None = None
) -> tuple[PrototypicalNetwork, MILR]:
    """The network and the explainer fitted to it on training images, from the cache if possible.

    sets: the "train" and "validation" images of the network's training; as it says if None.
    """
    sets = sets or load_sets(settings.training, ("train", "validation"))
    network, _ = train(settings.training, sets)
    return network, explainer_of(network, settings, sets["train"])


def explainer_of(
    network: nn.Module, settings: Explaining, images: ImageSet, decision: str = "episodes"
) -> MILR:
    """The explainer fitted to a network on the images that it learned from, from the cache.

    settings: of those of the training only device, precision, processes and seed matter to the
              fit; but all of them are part of its name in the cache
    decision: which loss the bottleneck has to keep low: "episodes", of a `PrototypicalNetwork`, or
              "classes", of a network that gives logits of the images' classes

    Raises ValueError for another decision.
    """
    if decision not in DECISIONS:
        raise ValueError(f"decision is {decision!r}; give one of {', '.join(DECISIONS)}")
    # The order of numbers in memory that convolutions are fastest with.
    network = network.to(memory_format=torch.channels_last)
    layers = settings.local, settings.representation, settings.evidence
    how = {name: getattr(settings, name) for name in ("beta", "critic", "members", "masks", "seed")}
    explainer = MILR(network, *layers, **how)
    training = settings.training
    fabric = distributed.make_fabric(training.device, training.processes, training.precision)
    explainer.device = str(fabric.device)
    # By the kind of device, not by how it was asked for: "auto" finds what "cpu" made.
    config = asdict(settings) | {"device": fabric.device.type, "decision": decision}
    config["training"] |= {"device": fabric.device.type, "processes": None}
    # With the weights: the same settings may have trained another network by other code.
    learned = content_digest(images.key, str(network), *network.state_dict().values())
    place = {"config": config, "sources": SOURCES, "data": learned}
    state = once(
        fabric,
        "explainer",
        place,
        lambda: _fit(explainer, network, settings, images, decision, fabric).state(),
    )
    return explainer.load_state(state)


def _fit(explainer, network, settings: Explaining, images: ImageSet, decision, fabric) -> MILR:
    def of_episodes(outputs: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        embeddings = distributed.gather(outputs.float())
        return episodes(network, embeddings.unflatten(0, (settings.ways, -1)))[0]

    def of_classes(outputs: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        return functional.cross_entropy(outputs.float(), batch[1].to(outputs.device))

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
    """Normalised images with their classes, this process's share of each batch, class by class."""
    seed = settings.training.seed * 1009 + settings.seed
    for indices in batches_by_class(images.targets, settings.ways, settings.per_class, seed):
        own = distributed.share_of(indices)
        yield normalise(images.images[own]), images.targets[own]


def main(arguments: list[str] | None = None) -> None:
    """Fit the explainer that the command line names, and print what it found on its bank."""
    _, explainer = explain(parse(arguments))
    if not distributed.is_first():
        return
    for name, history in explainer.history.items():
        if name.startswith("held out"):
            value, error = history
            print(f"{name}: {value:.3f} +- {error:.3f} nats, average location")


def parse(arguments: list[str] | None) -> Explaining:
    """Settings from a command line: `--network-...` for the network's, else the explainer's.

    Without `--beta` it is `SHARP` of the network's data.
    """
    parser = argparse.ArgumentParser("milr.models.explainers", description=Explaining.__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    for prefix, cls in (("network-", Training), ("", Explaining)):
        for one in fields(cls):
            if isinstance(one.default, int | float | str | None):
                kind = str if one.default is None else type(one.default)
                parser.add_argument(f"--{prefix}{one.name.replace('_', '-')}", type=kind)
    given = {k: v for k, v in vars(parser.parse_args(arguments)).items() if v is not None}
    network = {k[len("network_") :]: v for k, v in given.items() if k.startswith("network_")}
    own = {k: v for k, v in given.items() if not k.startswith("network_")}
    training = recipe(**{"data": "birds"} | network)
    return Explaining(training, **{"beta": SHARP[training.data]} | own)


if __name__ == "__main__":
    main()
