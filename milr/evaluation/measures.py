"""What every map is measured by, method by method: one table of numbers for each of them.

A table has a name and, for each image, a number or a ratio (`summary.score` takes both).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from milr import peers, taps
from milr.cache import cached
from milr.data.images import ImageSet, content_digest
from milr.evaluation import (
    cost,
    effects,
    explained,
    fits,
    heat,
    interventions,
    localisation,
    perturbation,
)
from milr.evaluation.cases import SOURCES, Case
from milr.evaluation.cost import Cost
from milr.evaluation.interventions import Picture
from milr.evaluation.localisation import Ratio
from milr.evaluation.removal import Removal, ends, removal
from milr.evaluation.summary import Score, score
from milr.maps import MIDDLE
from milr.peers.peer import Peer

Table = Mapping[str, Ratio | Tensor]
IMPUTATIONS = ("noise", "blur")
CHOSEN = (0.05, 0.1, 0.2)
# Close where it tells most: what an object needs is a small share of its picture.
SHARES = {"noise": (*CHOSEN, 0.4, 0.7), "blur": (0.05, 0.2, 0.5)}


@dataclass(frozen=True)
class Measure:
    """label: as figures show it; larger: whether more is better."""

    label: str
    larger: bool = True


PARTS = {
    "lift": Measure("lift on defining parts"),
    "lift_clamped": Measure("lift, negatives as 0"),
    "lift_used": Measure("lift on used parts"),
    "mass": Measure("mass on defining parts"),
    "rank": Measure("rank accuracy"),
    "pointing": Measure("pointing game"),
}
PHOTOGRAPHS = {
    "box": Measure("energy in the box"),
    "heat_ratio": Measure("effective heat ratio"),
    "pointing": Measure("peak in the box"),
    "distance": Measure("distance from the nearest part", larger=False),
}
EFFECTS = {
    "decision": Measure("follows the decision"),
    "representation": Measure("follows the representation"),
    "spared": Measure("follows what is spared"),
}
REMOVALS = {
    **{f"keep_{round(100 * s)}": Measure(f"accuracy, keep {100 * s:.0f} %") for s in CHOSEN},
    **{
        f"drop_{round(100 * s)}": Measure(f"accuracy, drop {100 * s:.0f} %", larger=False)
        for s in CHOSEN
    },
    **{f"insertion_{i}": Measure(f"insertion, {i}") for i in IMPUTATIONS},
    **{f"deletion_{i}": Measure(f"deletion, {i}", larger=False) for i in IMPUTATIONS},
    **{f"insertion_{i}_cosine": Measure(f"insertion of z, {i}") for i in IMPUTATIONS},
    **{f"deletion_{i}_cosine": Measure(f"deletion of z, {i}", larger=False) for i in IMPUTATIONS},
}


def on_parts(maps: Tensor, labels: Tensor, regions: Mapping[str, Tensor]) -> Table:
    """Maps (B, H, W) of drawn birds against the masks "defining" and "used" (B, h, w).

    Maps are first divided by the mean size of their values, so that how large these are makes no
    difference. Lift and mass, rank accuracy and pointing game are those of `localisation` and
    `heat`: a lift is a ratio of sums, to which an image adds as much as it shows of the region.
    """
    defining = regions["defining"]
    alike = _of_one_size(maps)
    return {
        "lift": localisation.lift(alike, defining),
        "lift_clamped": localisation.lift(_of_one_size(maps.clamp(min=0)), defining),
        "lift_used": localisation.lift(alike, regions["used"]),
        "mass": localisation.positive_share(maps, defining).per_image,
        "rank": heat.rank_accuracy(maps, defining),
        "pointing": localisation.pointing(maps, defining),
    }


def on_photographs(maps: Tensor, some: ImageSet) -> Table:
    """Maps (B, H, W) of photographs against their boxes (B, 4) and, where known, part locations
    (B, P, 3)."""
    size = tuple(some.images.shape[-2:])
    box = localisation.box_masks(some.boxes, size)
    found = {
        "box": localisation.positive_share(maps, box).per_image,
        "heat_ratio": heat.effective_heat_ratio(maps, box),
        "pointing": localisation.pointing(maps, box),
    }
    if some.parts is not None:
        found["distance"] = explained.nearness(maps, some.parts, size)
    return found


def _of_one_size(maps: Tensor) -> Tensor:
    """Each map over the mean size of its values: a gradient is large only where the network is
    unsure, and a few such images would outweigh all others."""
    size = maps.abs().mean((1, 2), keepdim=True)
    return maps / size.where(size > 0, 1.0)


@dataclass(frozen=True, eq=False)
class Exchanged:
    """What exchanging each part of each query did: (P, B) each.

    representation: 1 - cosine of the representation, before and after; at least 0
    decision: change of the log-probability of the right species, in nats, whatever its sign
    drop: the same with its sign; above 0 where the right species became less probable
    """

    parts: tuple[str, ...]
    representation: Tensor
    decision: Tensor
    drop: Tensor

    @property
    def spared(self) -> Tensor:
        """Which parts move the representation and not the decision, by `effects.spared`: (P, B)."""
        return effects.spared(self.representation, self.decision)

    def used(self, count: int = 4) -> list[str]:
        """The parts whose exchange costs the right species most, on average."""
        order = self.drop.mean(1).argsort(descending=True)
        return [self.parts[i] for i in order[:count].tolist()]


def exchanged(
    one: Case,
    listed: Sequence[Picture],
    parts: Sequence[str],
    seed: int = 0,
    change: interventions.Change = interventions.replaced,
) -> Exchanged:
    """Exchange each part of the queries; listed: the pictures of the whole image set.

    change: as for `interventions.movement`, so that parts may be removed instead.
    """
    originals = [listed[i] for i in one.questions.query.tolist()]
    size = one.image_set.images.shape[-1]
    moved = interventions.movement(one.network, originals, parts, change, seed, size)
    support = one.embeddings[one.questions.support]
    gained = interventions.log_probability_change(one.network, moved, support, one.questions.right)
    return Exchanged(tuple(parts), moved.turned, gained.abs(), -gained)


def against_effects(maps: Tensor, labels: Tensor, found: Exchanged) -> Table:
    """How far maps follow what exchanges did, and beside each its null ("..._null").

    maps: (B, H, W); labels: (B, h, w), an index into the parts of `found`. By a map's sum on a
    part, over the parts of each image on its own; with "_size", by the sum of its values without
    their signs; with "_mean", by its mean there; with "_pooled", by the sum, over all parts of all
    images together.
    """
    area = effects.areas(labels, found.parts)
    ways = {
        "": (maps, effects.following, area),
        "_size": (maps.abs(), effects.following, area),
        "_mean": (maps, effects.following, torch.ones_like(area)),
        "_pooled": (maps, effects.following_pooled, area),
    }
    table = {}
    for ending, (values, follow, size) in ways.items():
        held = effects.mean_on_parts(values, labels, found.parts) * size
        others = effects.dealt(values, labels, found.parts) * size
        for name in EFFECTS:
            effect = getattr(found, name)
            table[name + ending] = follow(held, effect)
            table[f"{name}{ending}_null"] = _mean(follow(others, effect))
    return table


def _mean(found: Ratio | Tensor) -> Ratio | Tensor:
    """Over the first dimension, the draws of a null."""
    if isinstance(found, Ratio):
        return Ratio(*(part.mean(0) for part in found.pair))
    return found.mean(0)


def by_sums(maps: Tensor, labels: Tensor, found: Exchanged) -> Table:
    """Of `against_effects` the first reading alone: sums on parts, image by image, no null.

    Arguments as there. Gives (B,) for each of `EFFECTS`.
    """
    held = effects.mean_on_parts(maps, labels, found.parts) * effects.areas(labels, found.parts)
    return {name: effects.following(held, getattr(found, name)) for name in EFFECTS}


def removals(
    one: Case,
    maps: Mapping[str, Sequence[Tensor]],
    shares: Mapping[str, Sequence[float]] = SHARES,
) -> dict[str, list[dict[str, dict[str, Removal]]]]:
    """For each method and explainer: imputation -> measure -> `Removal`, kept in the cache.

    maps: method -> for each explainer (or once) the maps (B, H, W) of the queries; shares: of the
    locations, for each imputation that is wanted.
    """
    images, measures = one.images, one.questions.measures(one.network, one.embeddings)
    runs = {
        "noise": perturbation.feature_noise(one.network, one.explainers[0].local, one.moments),
        "blur": perturbation.blurred(one.network),
    }
    runs = {kind: runs[kind] for kind in shares}
    looks = {kind: {"noise": one.offset, "blur": MIDDLE}[kind] for kind in runs}
    bounds = {name: ends(run, images, measures, one.grid) for name, run in runs.items()}
    weights = [v for v in one.network.state_dict().values() if v.is_floating_point()]
    asked = content_digest(*weights, *measures["log-probability"].context)

    def made(values: Tensor) -> dict:
        return {
            kind: {
                name: [r.shares, r.kept, r.dropped]
                for name, r in removal(
                    run,
                    images,
                    perturbation.at_locations(values, one.grid, looks[kind]),
                    measures,
                    one.grid,
                    bounds[kind],
                    shares[kind],
                ).items()
            }
            for kind, run in runs.items()
        }

    def kept(values: Tensor) -> dict[str, dict[str, Removal]]:
        config = {"shares": dict(shares), "looks": {name: list(o) for name, o in looks.items()}}
        config |= {"device": taps.device_of(one.network).type}
        digest = f"{content_digest(images, values, *one.moments)} {asked}"
        here = (Path(__file__).with_name(f"{name}.py") for name in ("removal", "questions"))
        sources = (*SOURCES, Path(perturbation.__file__), *here)
        found = cached("removal", config, lambda: made(values), sources=sources, data=digest)
        return {
            kind: {name: Removal(*parts) for name, parts in row.items()}
            for kind, row in found.items()
        }

    return {name: [kept(values) for values in row] for name, row in maps.items()}


def after_removal(found: Mapping[str, Mapping[str, Removal]]) -> Table:
    """Accuracy with shares kept or dropped (feature noise), and the areas under all curves."""
    table = at_shares(found, CHOSEN)
    for kind in IMPUTATIONS:
        for name, ending in (("log-probability", ""), ("cosine", "_cosine")):
            table[f"insertion_{kind}{ending}"] = found[kind][name].insertion
            table[f"deletion_{kind}{ending}"] = found[kind][name].deletion
    return table


def at_shares(found: Mapping[str, Mapping[str, Removal]], shares: Sequence[float]) -> Table:
    """Accuracy with each of these shares kept or dropped (feature noise): "keep_5", "drop_5"."""
    table = {}
    for share in shares:
        kept, dropped = found["noise"]["correct"].at(share)
        table |= {f"keep_{round(100 * share)}": kept, f"drop_{round(100 * share)}": dropped}
    return table


def costs(
    one: Case,
    row: Mapping[str, Peer],
    fitting: Callable[[], Mapping[str, float]],
    repetitions: int,
    fit_share: float = 1.0,
) -> dict[str, Cost]:
    """What each method costs on the queries, as `cost.measure` says, kept in the cache.

    fitting: seconds of fitting, for the methods that fit anything; called if there is no entry.
    fit_share: of the steps that it makes to find out (`fits.seconds_of_fitting`).
    What was fitted otherwise is measured anew.
    """
    images, target, device = one.images, one.target, taps.device_of(one.network)
    learned = [one.network.state_dict(), *(e.state()["inserted"] for e in one.explainers)]

    def made() -> list:
        methods = {n: (lambda x, p=peer: p.maps(one.network, x, target)) for n, peer in row.items()}
        found = cost.measure(methods, images, fitting(), repetitions, device)
        return [[name, asdict(c) | {"spread": list(c.spread)}] for name, c in found.items()]

    config = {
        "methods": [[name, peer.fitted] for name, peer in row.items()],
        "repetitions": repetitions,
        "fit_share": fit_share,
        "threads": torch.get_num_threads(),
        "device": device.type,
    }
    sources = (*SOURCES, *fits.SOURCES, peers, Path(cost.__file__))
    asked = content_digest(images, *(value for state in learned for value in state.values()))
    kept = cached("cost", config, made, sources=sources, data=asked)
    return {name: Cost(**c | {"spread": tuple(c["spread"])}) for name, c in kept}


def gathered(
    networks: Sequence[Mapping[str, Sequence]], measure: Callable[..., Table]
) -> dict[str, dict[str, Score]]:
    """measure(network's index, maps or what else was found) of all, as measure -> method -> score.

    networks: for each, method -> what was found, one for each of its explainers.
    """
    tables = {
        name: [[measure(n, found) for found in row[name]] for n, row in enumerate(networks)]
        for name in networks[0]
    }
    names = next(iter(tables.values()))[0][0].keys()
    return {
        key: {
            method: score([[table[key] for table in row] for row in rows])
            for method, rows in tables.items()
        }
        for key in names
    }


def strongest(maps: Tensor, labels: Tensor, parts: Sequence[str], planted: str) -> Tensor:
    """(B,) 1 where the map's mean is largest on the planted part, else 0."""
    found = localisation.strongest_part(maps, labels, parts)
    return torch.tensor([float(part == planted) for part in found])
