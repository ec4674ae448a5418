"""What has to be fitted before it explains, apart from MI-LR itself, and how long fitting takes."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from milr import MILR, taps
from milr.cache import cached
from milr.data.episodes import batches_by_class
from milr.data.images import ImageSet, content_digest, normalise
from milr.distributed import make_fabric
from milr.models import learner
from milr.models.explainers import SOURCES as FITTED_BY
from milr.models.explainers import Explaining
from milr.models.prototypical import PrototypicalNetwork
from milr.peers import literal, schulz

BLUR = 1.0
SOURCES = (*FITTED_BY, Path(schulz.__file__), Path(__file__))


def readout(
    settings: Explaining, network: PrototypicalNetwork, images: ImageSet, steps: int = 150
) -> tuple[schulz.Readout, float]:
    """A Readout bottleneck fitted as the explainer is, and the seconds that took, from the cache.

    On the same training images, the same number in a step, and the network's own objective.
    """
    layers = settings.local, settings.evidence

    def make() -> dict:
        start = time.perf_counter()
        batches = _batches(settings, images)
        how = {"steps": steps, "blur": BLUR, "seed": settings.seed}
        how |= {"moment_batches": min(10, steps), "precision": settings.training.precision}
        found, _ = schulz.fit_readout(
            network, *layers, batches, _objective(settings, network), **how
        )
        seconds = time.perf_counter() - start
        moments = [list(pair) for pair in found.moments]
        mask = {name: value.cpu() for name, value in found.mask.state_dict().items()}
        return {"mask": mask, "moments": moments, "seconds": seconds}

    config = asdict(settings) | {"steps": steps, "device": taps.device_of(network).type}
    learned = content_digest(images.key, str(network), *network.state_dict().values())
    kept = cached("readout", config, make, sources=SOURCES, data=learned)
    moments = [tuple(pair) for pair in kept["moments"]]
    found = schulz.Readout((layers[0], *layers[1]), moments, BLUR, settings.seed)
    found.mask.load_state_dict(kept["mask"])
    return found.requires_grad_(False), kept["seconds"]


def literal_form(
    settings: Explaining, explainer: MILR, images: ImageSet, steps: int, beta: float = 0.1
) -> tuple[literal.Literal, dict[str, list[float]]]:
    """The paper's literal form, fitted as the explainer is, and its history, from the cache.

    explainer: of these settings; it reads the network, and nothing of what it learned is used.
    """
    network, device = explainer.model, taps.device_of(explainer.model).type

    def make() -> dict:
        batches, objective = _batches(settings, images), _objective(settings, network)
        how = {"steps": steps, "beta": beta, "seed": settings.seed}
        how |= {"precision": settings.training.precision}
        module, history = literal.fit(explainer, batches, objective, **how)
        moments = {name: list(pair) for name, pair in module.moments.items()}
        return {"module": module.state_dict(), "moments": moments, "history": history}

    config = asdict(settings) | {"steps": steps, "price": beta, "device": device}
    kept = cached(
        "literal",
        config,
        make,
        sources=(*FITTED_BY, Path(literal.__file__), Path(__file__)),
        data=content_digest(images.key, str(network), *network.state_dict().values()),
    )
    found = literal.Literal({name: tuple(pair) for name, pair in kept["moments"].items()})
    found.load_state_dict(kept["module"])
    return found.requires_grad_(False), kept["history"]


def seconds_of_fitting(
    settings: Explaining, network: PrototypicalNetwork, images: ImageSet, share: float = 1.0
) -> float:
    """How long an explainer takes to fit: a share of all its steps is made and timed.

    As `milr.models.explainers` fits it, in its precision. The time is divided by the share, since
    its budget is in steps, and a step is like any other; what is done once counts for a little too
    much by that.
    """
    names = ("beta", "critic", "members", "masks", "seed")
    layers = settings.local, settings.representation, settings.evidence
    explainer = MILR(network, *layers, **{name: getattr(settings, name) for name in names})

    def part(count: int, least: int = 2) -> int:
        return max(least, round(share * count))

    start = time.perf_counter()
    explainer.fit(
        _batches(settings, images),
        _objective(settings, network),
        steps=part(settings.steps) if settings.steps else 0,
        critic_steps=part(settings.critic_steps),
        critic_batches=part(settings.critic_batches),
        moment_batches=part(10),
        hidden=settings.hidden,
        bank=part(settings.bank, 2 * settings.ways * settings.per_class),
        progress=False,
        fabric=make_fabric(str(taps.device_of(network)), precision=settings.training.precision),
    )
    return (time.perf_counter() - start) / share


def _objective(settings: Explaining, network: PrototypicalNetwork):
    def objective(outputs, batch):
        return learner.episodes(network, outputs.float().unflatten(0, (settings.ways, -1)))[0]

    return objective


def _batches(settings: Explaining, images: ImageSet) -> Iterator:
    """Normalised training images, class by class, in the order that the explainer sees."""
    seed = settings.training.seed * 1009 + settings.seed
    for indices in batches_by_class(images.targets, settings.ways, settings.per_class, seed):
        yield normalise(images.images[indices])
