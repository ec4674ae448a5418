"""Train a prototypical network, once: the weights are kept in the cache and found again.

    python -m milr.models.train --data birds --steps 600 --seed 0
    fabric run --accelerator=cuda --devices=4 milr/models/train.py --data cub --backbone resnet50

The first form takes `--processes` too. The second also starts on several machines, with
`--num-nodes`, `--node-rank` and `--main-address`.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from itertools import islice
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from milr import cache, distributed, doors
from milr.data.episodes import batches_by_class, sample
from milr.data.images import ImageSet, normalise
from milr.models.augmentation import AUGMENTATIONS
from milr.models.learner import Learner
from milr.models.prototypical import PrototypicalNetwork, evaluate
from milr.models.settings import DATA, Training, load_sets, recipe

_MILR = Path(__file__).parent.parent
# What the weights depend on, beside the settings and the images.
SOURCES = (
    *(_MILR / "models" / f"{name}.py" for name in ("train", "learner", "prototypical")),
    _MILR / "models" / "augmentation.py",
    _MILR / "distributed.py",
    *(_MILR / "data" / f"{name}.py" for name in ("images", "episodes")),
)
CHECKPOINT_SECONDS = 30.0
# The episodes of a validation.
VALIDATED = {"ways": 5, "shots": 1, "queries": 10}
# Ways, shots and queries of what the command line reports.
REPORTED = ((5, 1, 15), (5, 5, 15), (20, 1, 15))


def train(
    settings: Training, sets: dict[str, ImageSet] | None = None
) -> tuple[PrototypicalNetwork, dict[str, list]]:
    """The trained network, in evaluation mode on the training's device, and its history.

    sets: the "train" and "validation" images, of different classes; as `settings` say if None.
    history: "loss" and "accuracy" (in episodes of training images) of each step and "seconds"
    from the start to its end; "validation_accuracy" (5-way 1-shot) and its "validation_step".

    A training that was killed goes on from its last checkpoint, to the weights that it would have
    reached; if that one is damaged it begins anew. A disk that refuses a checkpoint does not end
    it. Raises FloatingPointError if the loss is no longer finite, and ValueError if the settings do
    not fit the data.
    """
    check(settings)
    fabric = distributed.make_fabric(settings.device, settings.processes, settings.precision)
    sets = sets or load_sets(settings, ("train", "validation"))
    _check_validation(settings, sets["validation"])
    place = {
        "config": _what_counts(settings, fabric),
        "sources": SOURCES,
        "data": f"{sets['train'].key} {sets['validation'].key}",
    }
    made = once(fabric, "network", place, lambda: _fit(fabric, settings, sets, place))
    with torch.random.fork_rng():
        network = PrototypicalNetwork(settings.backbone, settings.metric)
    network.load_state_dict(made["network"])
    return network.eval().to(fabric.device), made["history"]


def check(settings: Training) -> None:
    """Raises ValueError for settings that no training here can do with; all of them ask this."""
    doors.whole(1, steps=settings.steps)
    if settings.augmentation not in AUGMENTATIONS:
        raise ValueError(
            f"augmentation is {settings.augmentation!r}; give one of {', '.join(AUGMENTATIONS)}"
        )


def _check_validation(settings: Training, images: ImageSet) -> None:
    """Draw an episode, so that what cannot be validated is known before the training."""
    if settings.validations < 1:
        return
    try:
        sample(images.targets, **VALIDATED)
    except ValueError as error:
        raise ValueError(
            f"the training cannot be validated: {error}. Give other validation images (of drawn "
            f"birds, set per_species, now {settings.per_species}), or validations=0 for none"
        ) from error


def _what_counts(settings: Training, fabric: Fabric) -> dict:
    """The settings that the weights depend on: any number of processes learns the same."""
    config = asdict(settings) | {"device": fabric.device.type}
    del config["processes"]
    return config


def once(fabric: Fabric, name: str, place: dict, make: Callable[[], dict]) -> dict:
    """`cache.cached` for all processes: the first one looks it up, all of them make it.

    Raises what the first one raises; RuntimeError in the others if it failed where they wait.
    """
    if not fabric.is_global_zero:
        said, found = fabric.broadcast(None)
        if said == "make":
            found = make()
            said, _ = fabric.broadcast(None)
        if said == "failed":
            raise RuntimeError(f"the first process failed with {name}; its message says why")
        return found
    reached = []

    def make_with_all():
        reached.append("make")
        fabric.broadcast(("make", None))
        made = make()
        reached.append("made")
        return made

    try:
        found = cache.cached(name, make=make_with_all, **place)
    except Exception:
        # The others wait for a word, unless they are in the middle of making it.
        if reached != ["make"]:
            fabric.broadcast(("failed", None))
        raise
    fabric.broadcast(("found", None if reached else found))
    return found


def _fit(fabric: Fabric, settings: Training, sets: dict[str, ImageSet], place: dict) -> dict:
    learner, optimiser = _prepare(fabric, settings, len(sets["train"].classes))
    checkpoint = cache.scratch("network", **place) / "checkpoint.pt"
    history = _resume(fabric, checkpoint, learner, optimiser)
    start, seconds = len(history["loss"]), (history["seconds"] or [0.0])[-1]
    batches = batches_by_class(
        sets["train"].targets, settings.ways, settings.per_class, settings.seed
    )
    began = saved = time.monotonic()
    bar = {"total": settings.steps, "initial": start, "disable": not fabric.is_global_zero}
    with tqdm(desc="training", mininterval=1.0, **bar) as bar:
        for step, indices in enumerate(islice(batches, start, settings.steps), start):
            _set_rate(optimiser, settings, step)
            batch = _batch(fabric, settings, sets["train"], indices, step)
            loss, accuracy = _step(fabric, settings, learner, optimiser, batch)
            history["loss"].append(loss)
            history["accuracy"].append(accuracy)
            history["seconds"].append(seconds + time.monotonic() - began)
            bar.set_postfix(loss=f"{loss:.3f}", accuracy=f"{accuracy:.2f}", refresh=False)
            bar.update()
            if step + 1 in _validations(settings):
                _validate(learner.network, sets["validation"], history)
            if fabric.is_global_zero and time.monotonic() - saved >= CHECKPOINT_SECONDS:
                _save(checkpoint, learner, optimiser, history)
                saved = time.monotonic()
    return {"network": _contiguous(learner.network.state_dict()), "history": history}


def _prepare(fabric: Fabric, settings: Training, classes: int) -> tuple[Learner, Optimizer]:
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        network = PrototypicalNetwork(settings.backbone, settings.metric, settings.weights)
        learner = Learner(network, classes, settings.classifier, settings.smoothing)
    # Convolutions in bfloat16 are a quarter faster with the channels last.
    learner = distributed.synchronise(learner).to(memory_format=torch.channels_last)
    return fabric.setup(learner, adam(learner.parameters(), settings))


def adam(parameters: Iterable[nn.Parameter], settings: Training) -> Optimizer:
    """The optimiser of all trainings here, so that they differ in what they learn alone."""
    return torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.decay, fused=True)


def _batch(
    fabric: Fabric, settings: Training, images: ImageSet, indices: Tensor, step: int
) -> tuple[Tensor, Tensor]:
    """This process's share of the step's images, float, and all of its targets."""
    # From seed and step alone, so that a resumed training sees what it would have seen.
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
    views = AUGMENTATIONS[settings.augmentation](images.images[indices], generator)
    views = normalise(distributed.share_of(views).to(fabric.device))
    targets = images.targets[indices].to(fabric.device)
    return views.contiguous(memory_format=torch.channels_last), targets


def _step(
    fabric: Fabric,
    settings: Training,
    learner: Learner,
    optimiser: Optimizer,
    batch: tuple[Tensor, Tensor],
) -> tuple[float, float]:
    loss, accuracy = learner(*batch, settings.ways)
    if not torch.isfinite(loss):
        raise FloatingPointError(
            f"the loss became {loss.item()}; lower lr (now {settings.lr}), raise warmup "
            f"(now {settings.warmup}), or look for images that are not finite"
        )
    optimiser.zero_grad()
    fabric.backward(loss)
    fabric.clip_gradients(learner, optimiser, max_norm=settings.clip)
    optimiser.step()
    return float(loss.detach()), float(accuracy)


def _set_rate(optimiser: Optimizer, settings: Training, step: int) -> None:
    """Linearly up to lr during warm-up, then down to 0 along a cosine."""
    if step < settings.warmup:
        share = (step + 1) / settings.warmup
    else:
        done = (step - settings.warmup) / (settings.steps - settings.warmup)
        share = 0.5 + 0.5 * math.cos(math.pi * done)
    for group in optimiser.param_groups:
        group["lr"] = settings.lr * share


def _validations(settings: Training) -> set[int]:
    parts = settings.validations
    return {settings.steps * part // parts for part in range(1, parts + 1)}


def _validate(network: PrototypicalNetwork, images: ImageSet, history: dict) -> None:
    accuracies = evaluate(network, images, **VALIDATED, episodes=300)
    history["validation_step"].append(len(history["loss"]))
    history["validation_accuracy"].append(float(accuracies.mean()))


def _save(path: Path, learner: Learner, optimiser: Optimizer, history: dict) -> None:
    state = {
        "learner": learner.state_dict(),
        "optimiser": optimiser.state_dict(),
        "history": history,
    }
    try:
        cache.write_checkpoint(path, state)
    except OSError as error:
        tqdm.write(f"training: no checkpoint could be kept: {error}. Going on without.", sys.stderr)


def _resume(fabric: Fabric, path: Path, learner: Learner, optimiser: Optimizer) -> dict:
    """Bring learner and optimiser to where the checkpoint left them; return the history so far."""
    # From the first process, since other machines may not see its disk.
    state = fabric.broadcast(cache.read_checkpoint(path) if fabric.is_global_zero else None)
    if state is None:
        names = ("loss", "accuracy", "seconds", "validation_step", "validation_accuracy")
        return {name: [] for name in names}
    learner.load_state_dict(state["learner"])
    optimiser.load_state_dict(state["optimiser"])
    if fabric.is_global_zero:
        tqdm.write(f"training: going on after step {len(state['history']['loss'])}", sys.stderr)
    return state["history"]


def _contiguous(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.cpu().contiguous() for name, value in state.items()}


def main(arguments: list[str] | None = None) -> None:
    """Train as the command line says, and print the accuracy on novel classes.

    Raises ValueError, before it trains, if they have too few images.
    """
    settings = parse(arguments)
    novel = load_sets(settings, ("novel",))["novel"]
    reported = [episode for episode in REPORTED if episode[0] <= len(novel.classes)]
    try:
        for episode in reported:
            sample(novel.targets, *episode)
    except ValueError as error:
        raise ValueError(
            f"novel classes cannot be reported on: {error}. Of drawn birds, give --per-species 20 "
            f"or more (now {settings.per_species}); of photographs, more of them"
        ) from error
    network, history = train(settings)
    if not distributed.is_first():
        return
    print(f"{len(history['loss'])} steps in {history['seconds'][-1]:.0f} s, novel classes:")
    for ways, shots, queries in reported:
        found = evaluate(network, novel, ways, shots, queries)
        error = 1.96 * float(found.std()) / len(found) ** 0.5
        print(f"{ways}-way {shots}-shot: {100 * found.mean():.1f} +- {100 * error:.1f} %")


def parse(arguments: list[str] | None) -> Training:
    """The recipe of `--data` with the settings that the command line (sys.argv if None) names."""
    parser = argparse.ArgumentParser("milr.models.train", description=Training.__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", choices=DATA, default="birds")
    for field in fields(Training):
        if field.name != "data":
            kind = str if field.default is None else type(field.default)
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind)
    parsed = vars(parser.parse_args(arguments))
    return recipe(**{name: value for name, value in parsed.items() if value is not None})


if __name__ == "__main__":
    main()
