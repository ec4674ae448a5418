"""What is asked of every method: the same images, each a query of an episode of its own."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from milr.models.prototypical import PrototypicalNetwork
from milr.peers import targets
from milr.peers.targets import Target


@dataclass(frozen=True, eq=False)
class Questions:
    """Episodes with one query each, as indices into an image set.

    query:   (n,) int64, no image twice
    support: (n, ways, shots) int64, none of them its episode's query
    right:   (n,) int64, the support row of the query's class
    """

    query: Tensor
    support: Tensor
    right: Tensor

    def __len__(self) -> int:
        return len(self.query)

    def __getitem__(self, rows) -> "Questions":
        return Questions(self.query[rows], self.support[rows], self.right[rows])

    def target(self, model: PrototypicalNetwork, embeddings: Tensor) -> Target:
        """Log-probability of the right class, from the embeddings (m, D) of the whole set."""
        support = embeddings[self.support]
        return targets.episode_log_probability(model, support, self.right)

    def measures(self, model: PrototypicalNetwork, embeddings: Tensor) -> dict[str, Target]:
        """What deletion and insertion are measured by: "log-probability", "correct", "cosine"."""
        support = embeddings[self.support]
        return {
            "log-probability": self.target(model, embeddings),
            "correct": targets.episode_correct(model, support, self.right),
            "cosine": targets.cosine(embeddings[self.query]),
        }


def ask(
    labels: Tensor, count: int, ways: int = 5, shots: int = 1, seed: int = 0, part: int = 0
) -> Questions:
    """So many images of a set, drawn at random, with an episode each; labels: (m,), their classes.

    part: 0, 1, ... asks other images, in other episodes, each time, so that those of several
        networks add up.
    Raises ValueError if there are fewer images than that, fewer classes than `ways`, or too few
    images of a class that is drawn.
    """
    known = labels.numpy()
    classes = np.unique(known)
    end = (part + 1) * count
    if end > len(known) or ways > len(classes):
        raise ValueError(
            f"asked for part {part} of queries, {count} in each, as {ways}-way episodes, which "
            f"takes {end} images of {ways} classes; there are {len(known)} of {len(classes)}"
        )
    query = np.random.default_rng(seed).permutation(len(known))[end - count : end]
    draw = np.random.default_rng([seed, 1 + part])  # [seed, 0] is the stream of seed itself
    members = {c: np.flatnonzero(known == c) for c in classes}
    support, right = [], []
    for image in query:
        others = draw.choice(classes[classes != known[image]], ways - 1, replace=False)
        right.append(int(draw.integers(ways)))
        rows = np.insert(others, right[-1], known[image])
        free = [members[c][members[c] != image] for c in rows]
        if few := [c for c, images in zip(rows, free, strict=True) if len(images) < shots]:
            raise ValueError(
                f"class {few[0]} has {len(members[few[0]])} images; give {shots} and, for the "
                "query, one more of each class"
            )
        support.append([draw.choice(images, shots, replace=False) for images in free])
    found = (query, np.array(support), np.array(right))
    return Questions(*(torch.from_numpy(np.asarray(part, dtype=np.int64)) for part in found))
