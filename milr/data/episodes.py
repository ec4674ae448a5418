"""Few-shot episodes: a few classes, a few images of each to learn from, others to recognise."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch


@dataclass(frozen=True, eq=False)
class Episode:
    """Which images make an N-way K-shot episode.

    support: (ways, shots) int64, indices of the images whose class is told
    query:   (ways, queries) int64, indices of the images to recognise, none of them in `support`
    classes: (ways,) int64, the class of each row
    """

    support: torch.Tensor
    query: torch.Tensor
    classes: torch.Tensor

    @property
    def labels(self) -> torch.Tensor:
        """(ways, queries) int64: the row that each query belongs to."""
        return torch.arange(len(self.query))[:, None].expand_as(self.query)


def sample(
    targets: torch.Tensor,
    ways: int = 5,
    shots: int = 1,
    queries: int = 1,
    seed: int = 0,
    classes: Sequence[int] | None = None,
) -> Episode:
    """One episode: the first of `stream` with the same arguments, targets (n,) int64 among them.

    Raises as that does.
    """
    return next(stream(targets, ways, shots, queries, seed, classes))


def stream(
    targets: torch.Tensor,
    ways: int = 5,
    shots: int = 1,
    queries: int = 1,
    seed: int = 0,
    classes: Sequence[int] | None = None,
) -> Iterator[Episode]:
    """Episodes without end, the same ones for the same seed.

    targets: (n,) int64, class of each image
    ways:    how many classes an episode has; their order is drawn too
    shots:   support images of each class
    queries: query images of each class
    classes: draw from these classes alone (confusable species, say); all if None

    Raises ValueError if there are too few classes, or too few images of one.
    """
    _at_least_one(ways=ways, shots=shots, queries=queries)
    members = _members(targets, ways, shots + queries, classes)
    return _draw_episodes(members, ways, shots, queries, np.random.default_rng(seed))


def first(count: int, episodes: Iterator[Episode]) -> list[Episode]:
    """The next `count` episodes of a stream."""
    return list(islice(episodes, count))


def batches_by_class(
    targets: torch.Tensor, ways: int = 16, per_class: int = 4, seed: int = 0
) -> Iterator[torch.Tensor]:
    """Training batches without end: (ways * per_class,) int64 indices of images, class by class.

    Image i of a batch belongs to the batch's class i // per_class, so that each image can be the
    support in turn. Raises ValueError if there are too few classes, or too few images of one.
    """
    _at_least_one(ways=ways, per_class=per_class)
    members = _members(targets, ways, per_class, None)
    episodes = _draw_episodes(members, ways, per_class, 0, np.random.default_rng(seed))
    return (episode.support.flatten() for episode in episodes)


def _draw_episodes(
    members: dict[int, np.ndarray],
    ways: int,
    shots: int,
    queries: int,
    random: np.random.Generator,
) -> Iterator[Episode]:
    names = np.array(list(members))
    while True:
        classes = random.choice(names, ways, replace=False)
        rows = np.stack(
            [random.choice(members[c], shots + queries, replace=False) for c in classes]
        )
        yield Episode(
            support=torch.from_numpy(rows[:, :shots].copy()),
            query=torch.from_numpy(rows[:, shots:].copy()),
            classes=torch.from_numpy(classes),
        )


def _members(
    targets: torch.Tensor, ways: int, images: int, classes: Sequence[int] | None
) -> dict[int, np.ndarray]:
    """Class -> indices of its images, after checking that there are enough of both."""
    known = np.asarray(targets)
    wanted = np.unique(known) if classes is None else np.unique(np.asarray(classes))
    if len(wanted) < ways:
        raise ValueError(
            f"{ways} classes per episode were asked for, but there are {len(wanted)} to draw "
            f"from; give ways between 1 and {len(wanted)}, or more classes"
        )
    members = {int(c): np.flatnonzero(known == c) for c in wanted}
    smallest = min(members, key=lambda c: len(members[c]))
    if len(members[smallest]) < images:
        raise ValueError(
            f"{images} different images of each class are needed, but class {smallest} has "
            f"{len(members[smallest])}; ask for fewer images per class, or leave it out "
            "(`classes`, or `ImageSet.of_classes`)"
        )
    return members


def _at_least_one(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} is {count}; give 1 or more")
