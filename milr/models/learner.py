"""What a prototypical network learns from: episodes in a batch, and a classifier beside them."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from milr.distributed import gather
from milr.models.prototypical import PrototypicalNetwork, similarity


class Learner(nn.Module):
    """A network with a cosine classifier of the training classes, which only helps it to learn.

    classes: number of training classes; weight: of the classifier's loss; smoothing: of its labels
    """

    def __init__(self, network: PrototypicalNetwork, classes: int, weight: float, smoothing: float):
        super().__init__()
        self.network = network
        self.anchors = nn.Parameter(torch.randn(classes, network.dimension))
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.weight, self.smoothing = weight, smoothing

    def forward(self, images: Tensor, targets: Tensor, ways: int) -> tuple[Tensor, Tensor]:
        """Loss and accuracy of a global batch, of which this process has its share of the images.

        images: (B / processes, 3, H, W) float; targets: (B,), class by class, B / ways of each.
        """
        embeddings = gather(self.network(images))
        with torch.autocast(images.device.type, enabled=False):
            # Distances and logits need more digits than bfloat16 has.
            embeddings = embeddings.float()
            loss, accuracy = episodes(self.network, embeddings.unflatten(0, (ways, -1)))
            cosine = similarity(embeddings, self.anchors, "cosine")
            classifier = functional.cross_entropy(
                self.log_scale.exp() * cosine, targets, label_smoothing=self.smoothing
            )
        return loss + self.weight * classifier, accuracy


def episodes(network: PrototypicalNetwork, embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy and accuracy of all one-shot episodes in a batch.

    embeddings: (ways, per_class, D). Episode k has the k-th image of each class as support, and
    all others as queries.
    """
    ways, per_class, _ = embeddings.shape
    flat = embeddings.flatten(0, 1)
    scores = network.log_scale.exp() * similarity(flat, flat, network.metric)
    # (query, class of the support, episode)
    scores = scores.reshape(ways * per_class, ways, per_class)
    target = torch.arange(ways, device=flat.device).repeat_interleave(per_class)
    target = target[:, None].expand(-1, per_class)
    position = torch.arange(per_class, device=flat.device)
    is_query = position.repeat(ways)[:, None] != position
    losses = functional.cross_entropy(scores, target, reduction="none")
    right = (scores.argmax(1) == target).float()
    return losses[is_query].mean(), right[is_query].mean()
