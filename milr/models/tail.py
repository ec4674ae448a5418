"""A prototypical network that has to encode how one part looks, whatever it decides.

It learns as those of `milr.models.train` do, in as many steps and from the same start, but with a
linear head beside the episodes, which must name the attributes of the part (the tail's shape,
colour and pattern, say) from the representation. The head is thrown away afterwards. Such a
training is short, so one that was killed begins anew.
"""

from dataclasses import asdict, replace
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from milr import distributed
from milr.data.birds.species import VALUES
from milr.data.episodes import batches_by_class
from milr.data.images import ImageSet, content_digest
from milr.distributed import gather
from milr.models import steps
from milr.models import train as loop
from milr.models.learner import Learner, episodes
from milr.models.prototypical import PrototypicalNetwork, similarity
from milr.models.settings import Training

WEIGHT = 1.0
SOURCES = (*steps.SOURCES, Path(__file__))


class WithLook(Learner):
    """A `Learner` with one more loss: how badly a linear head names the attributes of a part.

    attributes: how many there are, of four values each; share: weight of the head's loss
    """

    def __init__(self, network, classes, weight, smoothing, attributes: int, share: float):
        super().__init__(network, classes, weight, smoothing)
        self.head = nn.Linear(network.dimension, attributes * VALUES)
        self.share = share

    def forward(self, images: Tensor, targets: Tensor, ways: int) -> tuple[Tensor, Tensor]:
        """Loss (nats) and accuracy of the episodes, as `Learner.forward`.

        targets: (B, 1 + attributes), the class and then the values. The head's loss is the sum of
        the cross-entropies of all attributes.
        """
        embeddings = gather(self.network(images))
        classes, looks = targets[:, 0], targets[:, 1:]
        with torch.autocast(images.device.type, enabled=False):
            embeddings = embeddings.float()
            loss, accuracy = episodes(self.network, embeddings.unflatten(0, (ways, -1)))
            cosine = self.log_scale.exp() * similarity(embeddings, self.anchors, "cosine")
            smoothing = self.smoothing
            classifier = functional.cross_entropy(cosine, classes, label_smoothing=smoothing)
            named = self.head(embeddings).unflatten(1, (-1, VALUES)).transpose(1, 2)
            naming = functional.cross_entropy(named, looks, reduction="none").sum(1).mean()
        return loss + self.weight * classifier + self.share * naming, accuracy


def train(
    settings: Training, images: ImageSet, looks: Tensor, share: float = WEIGHT
) -> tuple[PrototypicalNetwork, dict[str, list[float]]]:
    """The network, in evaluation mode on the training's device, and its history, from the cache.

    looks: (n, attributes) int64, of each image the values of the part's attributes, 0 to 3
    share: weight of the head's loss; with 0 it becomes the network of `milr.models.train.train`
    history: "loss", "accuracy" (of episodes of training images) and "seconds" of each step

    Raises ValueError unless there is a row of values for each image, and for settings that cannot
    be, and FloatingPointError as `milr.models.train.train`.
    """
    loop.check(settings)
    if looks.dim() != 2 or len(looks) != len(images):
        raise ValueError(
            f"looks has shape {tuple(looks.shape)} for {len(images)} images; give (n, attributes), "
            "a row for each image"
        )
    fabric = distributed.make_fabric(settings.device, settings.processes, settings.precision)
    config = asdict(settings) | {"device": fabric.device.type, "share": share}
    del config["processes"]
    data = content_digest(images.key, looks)
    place = {"config": config, "sources": SOURCES, "data": data}
    made = loop.once(fabric, "tail", place, lambda: _fit(fabric, settings, images, looks, share))
    with torch.random.fork_rng():
        network = PrototypicalNetwork(settings.backbone, settings.metric)
    network.load_state_dict(made["network"])
    return network.eval().to(fabric.device), made["history"]


def _fit(fabric: Fabric, settings: Training, images: ImageSet, looks: Tensor, share) -> dict:
    learner, optimiser = _prepare(fabric, settings, len(images.classes), looks.shape[1], share)
    told = replace(images, targets=torch.cat([images.targets[:, None], looks], 1))
    history = steps.new_history()
    drawn = batches_by_class(images.targets, settings.ways, settings.per_class, settings.seed)
    for _ in steps.each(fabric, settings, learner, optimiser, told, drawn, "tail", history):
        pass
    return {"network": loop._contiguous(learner.network.state_dict()), "history": history}


def _prepare(fabric: Fabric, settings: Training, classes: int, attributes: int, share: float):
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        # In the order of `milr.models.train`, so that both start from the same numbers.
        network = PrototypicalNetwork(settings.backbone, settings.metric, settings.weights)
        beside = settings.classifier, settings.smoothing
        learner = WithLook(network, classes, *beside, attributes, share)
    learner = distributed.synchronise(learner).to(memory_format=torch.channels_last)
    return fabric.setup(learner, loop.adam(learner.parameters(), settings))
