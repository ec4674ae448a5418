"""Prototypical networks: an image belongs to the class whose mean embedding is nearest.

Snell, Swersky, Zemel: Prototypical Networks for Few-shot Learning, 2017. The distance is the
squared Euclidean one of that paper, or the cosine, each times a learned inverse temperature.
"""

import math
from itertools import islice
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from milr.data.episodes import stream
from milr.data.images import ImageSet, normalise

BACKBONES = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet34": (BasicBlock, [3, 4, 6, 3]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
}
METRICS = ("cosine", "euclidean")
# Where the temperature's learning starts: logits of a few units for embeddings of a fresh network.
SCALE = {"cosine": 10.0, "euclidean": 0.05}


class PrototypicalNetwork(ResNet):
    """torchvision's ResNet without its last layer, and the comparison of its embeddings.

    Layers keep torchvision's names: "layer1" to "layer4", "avgpool". The embedding of an image
    has `dimension` numbers (512; 2048 for "resnet50").

    backbone: "resnet18", "resnet34" or "resnet50"
    metric:   "cosine" or "euclidean" (squared)
    weights:  None (drawn from torch's random state) or "imagenet" (downloaded by torchvision)

    Raises ValueError for other values, and RuntimeError if weights cannot be downloaded.
    """

    def __init__(
        self, backbone: str = "resnet18", metric: str = "cosine", weights: str | None = None
    ):
        one_of("backbone", backbone, BACKBONES)
        one_of("metric", metric, METRICS)
        one_of("weights", weights, (None, "imagenet"))
        super().__init__(*BACKBONES[backbone])
        self.metric = metric
        self.dimension = self.fc.in_features
        self.fc = nn.Identity()
        self.log_scale = nn.Parameter(torch.tensor(math.log(SCALE[metric])))
        if weights == "imagenet":
            # Not strict: the file has a last layer, and no temperature.
            self.load_state_dict(_imagenet(backbone), strict=False)

    def logits(self, support: Tensor, query: Tensor) -> Tensor:
        """Log-probabilities of the classes up to a constant, from embeddings.

        support: (ways, shots, D); query: (Q, D); returns (Q, ways).
        """
        return self.log_scale.exp() * similarity(query, prototypes(support), self.metric)


def prototypes(support: Tensor) -> Tensor:
    """Mean embedding of each class: (ways, shots, D) -> (ways, D). Snell et al., equation 1.

    Raises ValueError for another shape.
    """
    if support.dim() != 3:
        raise ValueError(
            f"support has shape {tuple(support.shape)}; give embeddings as (ways, shots, D)"
        )
    return support.mean(1)


def similarity(query: Tensor, reference: Tensor, metric: str) -> Tensor:
    """How alike embeddings (Q, D) and (R, D) are: (Q, R).

    "cosine": between -1 and 1; "euclidean": minus the squared distance, at most 0.
    Raises ValueError if the two differ in D, or for another metric.
    """
    one_of("metric", metric, METRICS)
    if query.shape[1:] != reference.shape[1:]:
        raise ValueError(
            f"embeddings of shape {tuple(query.shape)} and {tuple(reference.shape)} cannot be "
            "compared; both need the same last dimension"
        )
    if metric == "cosine":
        return nn.functional.normalize(query, dim=1) @ nn.functional.normalize(reference, dim=1).T
    # Differences first: the expanded square loses digits where two embeddings are close.
    return -(query[:, None] - reference).square().sum(-1)


@torch.no_grad()
def embed(model: nn.Module, images: Tensor, batch: int = 128) -> Tensor:
    """Embeddings (n, D) float32 on the CPU of uint8 images (n, 3, H, W).

    Computed in evaluation mode on the device of the model, `batch` images at a time; every part
    of the model is afterwards in the mode in which it was.
    """
    modes = {module: module.training for module in model.modules()}
    device = next(model.parameters()).device
    model.eval()
    try:
        return torch.cat([model(normalise(part.to(device))).cpu() for part in images.split(batch)])
    finally:
        for module, mode in modes.items():
            module.training = mode


@torch.no_grad()
def evaluate(
    model: PrototypicalNetwork,
    image_set: ImageSet,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    episodes: int = 600,
    seed: int = 0,
    classes: list[int] | None = None,
) -> Tensor:
    """Accuracy in each of a number of episodes: (episodes,) float32, between 0 and 1.

    classes: draw from these classes alone, such as congeners that are easily confused. Errors as
    for `milr.data.episodes.stream`.
    """
    drawn = stream(image_set.targets, ways, shots, queries, seed, classes)
    return accuracies(model, embed(model, image_set.images), islice(drawn, episodes))


@torch.no_grad()
def accuracies(model: PrototypicalNetwork, embeddings: Tensor, episodes) -> Tensor:
    """Accuracy in each episode, (number of episodes,), from the embeddings (n, D) of a set."""
    embeddings = embeddings.to(model.log_scale.device)
    found = []
    for episode in episodes:
        query = embeddings[episode.query.flatten()]
        guess = model.logits(embeddings[episode.support], query).argmax(1).cpu()
        found.append((guess == episode.labels.flatten()).float().mean())
    return torch.stack(found)


def _imagenet(backbone: str) -> dict[str, Tensor]:
    weights = torchvision.models.get_model_weights(backbone).IMAGENET1K_V1
    try:
        return weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise RuntimeError(
            f"ImageNet weights for {backbone} could not be downloaded from {weights.url} "
            f"({error}). Put that file into {folder}, or train from scratch with weights=None."
        ) from error


def one_of(name: str, given, allowed) -> None:
    """Raises ValueError unless what is given for a setting is one of those allowed."""
    if given not in allowed:
        raise ValueError(f"{name} is {given!r}; give one of {', '.join(map(str, allowed))}")
