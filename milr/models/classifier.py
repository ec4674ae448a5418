"""A classifier: torchvision's ResNet with its last layer kept, as in the patent text, section 1."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import ResNet

from milr.data.images import ImageSet
from milr.distributed import gather
from milr.models.prototypical import BACKBONES, PrototypicalNetwork, embed, one_of


class Classifier(ResNet):
    """torchvision's ResNet with its own names of layers; "fc" gives a logit for each class.

    classes: how many; backbone, weights: as for `PrototypicalNetwork` (with weights, all layers but
    the last one start from them)

    Raises ValueError for fewer than two classes, else as `PrototypicalNetwork` does.
    """

    def __init__(self, classes: int, backbone: str = "resnet18", weights: str | None = None):
        if classes < 2:
            raise ValueError(f"{classes} classes; give 2 or more")
        one_of("backbone", backbone, BACKBONES)
        # The last layer after all others: those then start from the same random numbers as in a
        # `PrototypicalNetwork`, however many classes there are.
        super().__init__(*BACKBONES[backbone])
        self.fc = nn.Linear(self.fc.in_features, classes)
        if weights is not None:
            # Not strict: what starts from there has a temperature, and no last layer.
            start = PrototypicalNetwork(backbone, weights=weights)
            self.load_state_dict(start.state_dict(), strict=False)


class CrossEntropy(nn.Module):
    """How a classifier learns; called as `milr.models.learner.Learner`."""

    def __init__(self, network: Classifier, smoothing: float):
        super().__init__()
        self.network, self.smoothing = network, smoothing

    def forward(self, images: Tensor, targets: Tensor, ways: int) -> tuple[Tensor, Tensor]:
        """Loss (nats) and accuracy of a global batch, from this process's share of its images.

        images: (B / processes, 3, H, W) float; targets: (B,)
        """
        logits = gather(self.network(images))
        with torch.autocast(images.device.type, enabled=False):
            loss = functional.cross_entropy(logits.float(), targets, label_smoothing=self.smoothing)
        return loss, (logits.argmax(1) == targets).float().mean()


def held_out(images: ImageSet, per_class: int) -> tuple[Tensor, Tensor]:
    """Indices of the images to learn from and, the last `per_class` of each class, to test with.

    (m,) and (per_class * classes,) int64, each in ascending order. Raises ValueError if that leaves
    a class without an image to learn from.
    """
    counts = torch.bincount(images.targets, minlength=len(images.classes))
    if not 1 <= per_class < counts.min():
        smallest = images.classes[int(counts.argmin())]
        raise ValueError(
            f"{per_class} images of each class are to be held out, and {smallest} has "
            f"{int(counts.min())}; give 1 or more and fewer than that"
        )
    rows = [torch.nonzero(images.targets == c).flatten() for c in range(len(images.classes))]
    learn = torch.cat([row[:-per_class] for row in rows])
    return learn.sort().values, torch.cat([row[-per_class:] for row in rows]).sort().values


def correct(network: nn.Module, images: ImageSet) -> Tensor:
    """(n,) float: 1 where the network's largest logit is that of the image's class."""
    return (embed(network, images.images).argmax(1) == images.targets).float()
