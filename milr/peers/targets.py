"""Which number of an image's output is explained: the same one for every method."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from milr import doors
from milr.models.prototypical import PrototypicalNetwork, prototypes, similarity


@dataclass(frozen=True, eq=False)
class Target:
    """A scalar of each image's output, and what it takes to compute it.

    score:   called with the outputs (B, ...) and the context, gives (B,)
    context: tensors (B, ...), a row for each image. They are no part of `score`, so that a method
             which runs an image many times can repeat the rows as it repeats the image
    """

    score: Callable[..., Tensor]
    context: tuple[Tensor, ...]

    def __call__(self, outputs: Tensor) -> Tensor:
        """The scalars (B,) of as many outputs as there are rows, differentiable."""
        doors.tensor(outputs)
        return self.score(outputs, *self.to(outputs.device).context)

    @property
    def name(self) -> str:
        """Which scalar it is, for cache keys: where its function is defined, and its name."""
        score = self.score if hasattr(self.score, "__qualname__") else type(self.score)
        return f"{score.__module__}.{score.__qualname__}"

    def __len__(self) -> int:
        return len(self.context[0])

    def __getitem__(self, rows) -> "Target":
        return self._changed(lambda rows_of: rows_of[rows])

    def to(self, device: torch.device) -> "Target":
        """The same target with its context on this device."""
        return self._changed(lambda rows_of: rows_of.to(device))

    def cloned(self) -> "Target":
        """With copies of the rows."""
        return self._changed(torch.clone)

    def repeated(self, times: int) -> "Target":
        """All rows, then all rows again, and so on."""
        return self._changed(lambda rows_of: torch.cat([rows_of] * times))

    def _changed(self, change: Callable[[Tensor], Tensor]) -> "Target":
        return replace(self, context=tuple(map(change, self.context)))


def episode_log_probability(model: PrototypicalNetwork, support: Tensor, right: Tensor) -> Target:
    """Log-probability of the right class in each image's own episode, in nats.

    support: (B, ways, shots, D), embeddings; right: (B,) int64, row of the right class. Raises
    ValueError for another shape of support.
    """
    logits = _episode_logits(model)

    def score(embeddings: Tensor, prototypes: Tensor, right: Tensor) -> Tensor:
        return _picked(logits(embeddings, prototypes).log_softmax(1), right)

    return Target(score, (_prototypes(support), right))


def episode_correct(model: PrototypicalNetwork, support: Tensor, right: Tensor) -> Target:
    """1 for each image that is taken for its right class, else 0: scalars (B,).

    Arguments, and what is raised: as for `episode_log_probability`.
    """
    logits = _episode_logits(model)

    def score(embeddings: Tensor, prototypes: Tensor, right: Tensor) -> Tensor:
        return (logits(embeddings, prototypes).argmax(1) == right).float()

    return Target(score, (_prototypes(support), right))


def class_logit(classes: Tensor) -> Target:
    """A classifier's output for each image's class, (B,) int64. Raises ValueError for others."""
    return Target(_of_class, (_checked(classes),))


def class_log_probability(classes: Tensor) -> Target:
    """Log-probability that a classifier gives to each image's class, (B,) int64, in nats.

    Raises ValueError for others.
    """
    return Target(lambda logits, chosen: _of_class(logits, chosen, log=True), (_checked(classes),))


def along_embedding(clean: Tensor) -> Target:
    """How far the representation goes in the direction of the clean one; needs no label.

    clean: (B, D), the representations of the undisturbed images. The inner product with the clean
    one, held constant, as in Crabbe and van der Schaar, Label-Free Explainability, 2022, here
    divided by its length. The cosine itself would not do for gradients: it is at its maximum on
    the clean image, where its gradient is 0.
    """
    doors.tensor(clean)
    direction = torch.nn.functional.normalize(clean.detach().flatten(1), dim=1)
    return Target(lambda outputs, towards: (outputs.flatten(1) * towards).sum(1), (direction,))


def cosine(clean: Tensor) -> Target:
    """Cosine between the representation and the clean one (B, D): what disturbing an image costs.

    For curves of deletion and insertion. For gradients take `along_embedding`.
    """

    def score(outputs: Tensor, clean: Tensor) -> Tensor:
        return torch.cosine_similarity(outputs.flatten(1), clean, dim=1)

    doors.tensor(clean)
    return Target(score, (clean.detach().flatten(1),))


def _episode_logits(model: PrototypicalNetwork) -> Callable[[Tensor, Tensor], Tensor]:
    """Logits (B, ways) of embeddings (B, D) and prototypes (B, ways, D), image by image."""
    # A number, so that no gradient reaches the model and the target fits any copy of it.
    scale, metric = float(model.log_scale.detach().exp()), model.metric

    def one(embedding: Tensor, prototypes: Tensor) -> Tensor:
        return scale * similarity(embedding[None], prototypes, metric)[0]

    return torch.vmap(one)


def _prototypes(support: Tensor) -> Tensor:
    if support.dim() != 4:
        raise ValueError(
            f"support has shape {tuple(support.shape)}; give embeddings as (B, ways, shots, D), "
            "an episode for each image"
        )
    return torch.vmap(prototypes)(support.detach())


def _checked(classes: Tensor) -> Tensor:
    if not isinstance(classes, Tensor) or classes.dim() != 1 or classes.is_floating_point():
        given = tuple(classes.shape) if isinstance(classes, Tensor) else type(classes).__name__
        kind = f" {classes.dtype}" if isinstance(classes, Tensor) else ""
        raise ValueError(
            f"the classes are {given}{kind}; give a tensor with the number of a class for each "
            "image, (B,) int64"
        )
    return classes.long()


def _of_class(logits: Tensor, classes: Tensor, log: bool = False) -> Tensor:
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"the model gives {given} and no logits (B, classes); ask a module around it that does"
        )
    if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < logits.shape[1]:
        raise ValueError(
            f"the classes run from {classes.min()} to {classes.max()}, and the model has "
            f"{logits.shape[1]}; give numbers from 0 to {logits.shape[1] - 1}"
        )
    return _picked(logits.log_softmax(1) if log else logits, classes)


def _picked(values: Tensor, columns: Tensor) -> Tensor:
    return values.gather(1, columns[:, None])[:, 0]
