"""Three ways of learning with one backbone: from episodes, from classes, and without labels.

All take as many steps, with as many pictures in a step, under the same augmentation and schedule,
so that what differs is the question that is asked of the network. The steps themselves are those
of `milr.models.train`; such a training is short, so one that was killed begins anew.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from milr import distributed
from milr.data.episodes import batches_by_class
from milr.data.images import ImageSet
from milr.models import steps
from milr.models import train as loop
from milr.models.classifier import Classifier, CrossEntropy
from milr.models.learner import Learner
from milr.models.prototypical import PrototypicalNetwork
from milr.models.settings import Training

WAYS = ("episodic", "supervised", "self-supervised")
TEMPERATURE = 0.2
WIDTH = 128  # of the vectors that two views are compared by
_HERE = Path(__file__)
SOURCES = (*steps.SOURCES, _HERE, _HERE.with_name("classifier.py"))


class Learned(NamedTuple):
    """A network at the end of its training, on the way there, and how that went.

    network: a `Classifier` if it was supervised, else a `PrototypicalNetwork`
    kept:    steps -> the network after so many of them
    history: "loss", "accuracy" (each way's own) and "seconds", a value for each step
    """

    network: nn.Module
    kept: dict[int, nn.Module]
    history: dict[str, list[float]]


class TwoViews(nn.Module):
    """Two views of a picture should resemble each other more than any other picture's.

    InfoNCE with the cosine as critic and all other views of the batch as negatives, on vectors
    that a small network of its own makes from the embeddings and that is thrown away afterwards:
    Chen, Kornblith, Norouzi, Hinton: A Simple Framework for Contrastive Learning, 2020, equation 1.
    """

    def __init__(self, network: PrototypicalNetwork):
        super().__init__()
        self.network = network
        width = network.dimension
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, WIDTH))

    def forward(self, images: Tensor, targets: Tensor, ways: int) -> tuple[Tensor, Tensor]:
        """Loss (nats) of a global batch, and how often the other view is the nearest of all.

        images: this process's share of (2 n, 3, H, W); i and n + i are views of one picture. No
        use is made of targets and ways.
        """
        vectors = distributed.gather(self.head(self.network(images))).float()
        with torch.autocast(images.device.type, enabled=False):
            vectors = functional.normalize(vectors, dim=1)
            itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
            logits = (vectors @ vectors.T / TEMPERATURE).masked_fill(itself, -torch.inf)
            other = torch.arange(len(vectors), device=vectors.device).roll(len(vectors) // 2)
            loss = functional.cross_entropy(logits, other)
        return loss, (logits.argmax(1) == other).float().mean()


def train(settings: Training, way: str, images: ImageSet, keep: Sequence[int] = ()) -> Learned:
    """A network that learned from images in one of the three ways, from the cache.

    All of it is on the training's device.

    way:  "episodic" (one-shot episodes alone, without the classifier that helps in
          `milr.models.train`), "supervised" (a classifier of the classes), or "self-supervised"
          (two augmented views of each of half as many pictures, drawn without a look at classes)
    keep: after how many steps the network is kept, between 0 (untrained) and `settings.steps`

    Raises ValueError for another way or step or settings that cannot be, and FloatingPointError as
    `milr.models.train.train`.
    """
    loop.check(settings)
    if way not in WAYS:
        raise ValueError(f"way is {way!r}; give one of {', '.join(WAYS)}")
    if strange := [step for step in keep if not 0 <= step <= settings.steps]:
        raise ValueError(f"keep has {strange}; give steps from 0 to {settings.steps}")
    fabric = distributed.make_fabric(settings.device, settings.processes, settings.precision)
    config = asdict(settings) | {"device": fabric.device.type, "way": way, "keep": list(keep)}
    del config["processes"]
    place = {"config": config, "sources": SOURCES, "data": images.key}
    made = loop.once(fabric, "learned", place, lambda: _fit(fabric, settings, way, images, keep))

    def network_of(state: dict[str, Tensor]) -> nn.Module:
        with torch.random.fork_rng():
            network = _network(settings, way, len(images.classes), weights=None)
        network.load_state_dict(state)
        return network.eval().to(fabric.device)

    kept = {step: network_of(state) for step, state in made["kept"].items()}
    return Learned(network_of(made["network"]), kept, made["history"])


def _fit(fabric: Fabric, settings: Training, way: str, images: ImageSet, keep) -> dict:
    learner, optimiser = _prepare(fabric, settings, way, len(images.classes))
    history = steps.new_history()
    kept = {0: _state(learner)} if 0 in keep else {}
    batches = _batches(settings, way, images.targets)
    for done in steps.each(fabric, settings, learner, optimiser, images, batches, way, history):
        if done in keep:
            kept[done] = _state(learner)
    # The same tensors if the last step is kept: they are then written once.
    last = kept.get(settings.steps) or _state(learner)
    return {"network": last, "kept": kept, "history": history}


def _prepare(fabric: Fabric, settings: Training, way: str, classes: int):
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        network = _network(settings, way, classes, settings.weights)
        if way == "episodic":
            learner = Learner(network, classes, weight=0.0, smoothing=0.0)
            # It has no part in the loss then, and data parallelism waits for every gradient.
            learner.anchors.requires_grad_(False)
            learner.log_scale.requires_grad_(False)
        elif way == "supervised":
            learner = CrossEntropy(network, settings.smoothing)
        else:
            network.log_scale.requires_grad_(False)
            learner = TwoViews(network)
    learner = distributed.synchronise(learner).to(memory_format=torch.channels_last)
    trained = [p for p in learner.parameters() if p.requires_grad]
    return fabric.setup(learner, loop.adam(trained, settings))


def _network(settings: Training, way: str, classes: int, weights: str | None) -> nn.Module:
    if way == "supervised":
        return Classifier(classes, settings.backbone, weights)
    return PrototypicalNetwork(settings.backbone, settings.metric, weights)


def _batches(settings: Training, way: str, targets: Tensor) -> Iterator[Tensor]:
    """Indices of the images of each step."""
    if way != "self-supervised":
        yield from batches_by_class(targets, settings.ways, settings.per_class, settings.seed)
    pictures = settings.ways * settings.per_class // 2
    random = np.random.default_rng(settings.seed)
    while True:
        rows = torch.from_numpy(random.choice(len(targets), pictures, replace=False))
        yield torch.cat([rows, rows])


def _state(learner: nn.Module) -> dict[str, Tensor]:
    """A copy: what the optimiser changes afterwards must not reach it."""
    state = learner.network.state_dict()
    return {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}
