"""The loop of the short trainings, on the steps of `milr.models.train`.

It keeps no state to go on from: a training that was killed begins anew.
"""

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from lightning_fabric import Fabric
from torch import Tensor
from torch.optim import Optimizer
from tqdm import tqdm

from milr.data.images import ImageSet
from milr.models import train as loop
from milr.models.learner import Learner
from milr.models.settings import Training

SOURCES = (*loop.SOURCES, Path(__file__))


def new_history() -> dict[str, list[float]]:
    """What `each` fills: a value for each step."""
    return {"loss": [], "accuracy": [], "seconds": []}


def each(
    fabric: Fabric,
    settings: Training,
    learner: Learner,
    optimiser: Optimizer,
    images: ImageSet,
    batches: Iterable[Tensor],
    name: str,
    history: dict[str, list[float]],
) -> Iterator[int]:
    """Make `settings.steps` steps; after each, yield how many were made.

    batches: indices (B,) of the images of each step; name: of the progress bar; history: of
    `new_history`. Raises FloatingPointError if the loss is no longer finite.
    """
    began = time.monotonic()
    bar = {"total": settings.steps, "disable": not fabric.is_global_zero, "mininterval": 1.0}
    for step, indices in enumerate(tqdm(islice(batches, settings.steps), desc=name, **bar)):
        loop._set_rate(optimiser, settings, step)
        batch = loop._batch(fabric, settings, images, indices, step)
        loss, accuracy = loop._step(fabric, settings, learner, optimiser, batch)
        history["loss"].append(loss)
        history["accuracy"].append(accuracy)
        history["seconds"].append(time.monotonic() - began)
        yield step + 1
