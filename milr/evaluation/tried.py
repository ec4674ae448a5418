"""Ways to a better decision map, held against each other on validation species.

What is reported on novel species is chosen here, on images that no report is about.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from milr import MILR
from milr.data.images import ImageSet
from milr.evaluation import explained, measures
from milr.evaluation.cases import Case, maps_of
from milr.evaluation.interventions import Picture
from milr.evaluation.summary import Score
from milr.models.explainers import Explaining, explain
from milr.peers import own
from milr.peers.peer import Peer
from milr.readings import READINGS

MEASURES = {
    "lift_clamped": "lift, negatives as 0",
    "mass": "mass",
    "decision": "follows the decision",
    "keep_5": "accuracy, keep 5 %",
    "keep_10": "keep 10 %",
    "drop_5": "drop 5 %",
}
KEPT = (0.05, 0.1)  # the shares of the locations that these ask for
TOTALS = {
    "representation": "follows the representation",
    "representation_mean": "the same, by means",
    "mass": "mass",
}
STEPS = (5, 10, 20)
PRICES = (1 / 3, 3)
SMOOTH = 0.8  # of a location: the deviation of the Gaussian
# How maps are shared out: the width in locations, and the power.
SHARINGS = {
    "shared": (1, 2),
    "shared, half the width": (0.5, 2),
    "shared, twice the width": (2, 2),
    "shared, power 1": (1, 1),
}
OTHERS = {
    "finer layer": {
        "local": "relu",
        "evidence": ("relu", "layer1", "layer2", "layer3", "layer4"),
    },
    "two-layer critics": {"critic": "two-layer"},
}


def ways(explainer: MILR) -> dict[str, Peer]:
    """Name -> the map: other readings, masks refined for longer, prices, smoothing."""
    found = {
        "pointwise": own.amortised(explainer),
        "surprise": own.amortised(explainer, reading="surprise"),
        "surprise, smoothed": _smoothed(own.amortised(explainer, reading="surprise")),
        "capacity": own.amortised(explainer, "capacity"),
        "refined pointwise": own.refined(explainer),
        "refined capacity": own.refined(explainer, "capacity"),
    }
    for steps in STEPS:
        name = f"refined surprise, {steps} steps"
        found[name] = own.refined(explainer, reading="surprise", steps=steps)
    for price in PRICES:
        name = f"refined surprise, price times {price:.2g}"
        priced = explainer.around(explainer.model, beta=price * explainer.beta)
        found[name] = own.refined(priced, reading="surprise")
    return _told_apart(found, explainer)


def shared_out(one: Case, fine: MILR) -> dict[str, Peer]:
    """Name -> the case's surprise maps shared out by an explainer of a finer layer.

    The refined one in several ways, that of the image alone in the first of them.
    """
    explainer = one.explainers[0]
    peers = {
        "surprise": own.amortised(explainer, reading="surprise"),
        "refined surprise": own.refined(explainer, reading="surprise"),
    }
    ways = {
        name: _shared(name, peer, one.offset, one.cell, fine)
        for name, peer in _told_apart(peers, explainer).items()
    }
    first = next(iter(ways["surprise"]))
    return ways["refined surprise"] | {first: ways["surprise"][first]}


def fitted_anew(settings: Explaining, sets: Mapping[str, ImageSet]) -> dict[str, Peer]:
    """Name -> the surprise of another layer, and of other critics, each in half the steps."""
    found = {}
    for name in OTHERS:
        explainer = explain(_anew(settings, name), sets)[1]
        each = {
            f"{name}, surprise": own.amortised(explainer, reading="surprise"),
            f"{name}, refined surprise": own.refined(explainer, reading="surprise"),
        }
        found |= _told_apart(each, explainer)
    return found


def totals(
    settings: Explaining, sets: Mapping[str, ImageSet], one: Case, fine: MILR
) -> dict[str, Peer]:
    """Name -> the total map, of two layers, by two kinds of critics, in two readings.

    And the surprise of the last shared out by itself.
    one: with the explainer of these settings; fine: that of `milr.models.explainers.fine`. The
    other two are those of `fitted_anew`, in half the steps: layers and critics are not compared at
    one budget. (What is fitted for the mask has no part in a total map.)
    """
    each = {"layer1, linear": one.explainers[0]}
    for name, label in (
        ("two-layer critics", "layer1, two-layer"),
        ("finer layer", "finer, linear"),
    ):
        each[label] = explain(_anew(settings, name), sets)[1]
    each["finer, two-layer"] = fine
    found = {}
    for name, explainer in each.items():
        for reading in READINGS:
            row = f"{name}, {reading}"
            found |= _told_apart({row: own.amortised(explainer, "total", reading)}, explainer)
    last = "finer, two-layer, surprise"
    return found | _shared(last, found[last], fine.offset, one.cell, fine)


def compared(
    asked: Sequence[tuple[Case, Mapping[str, Peer]]],
    listed: Sequence[Picture],
    parts: Sequence[str],
    defining: Sequence[str],
    seed: int = 0,
    wanted: Mapping[str, str] = MEASURES,
) -> dict[str, dict[str, Score]]:
    """Measure -> way -> score, of the wanted measures.

    asked: of each network a case, and the ways, by the same names; places are taken away in the
    layer of the case's explainer. listed: the pictures of the whole image set, to exchange parts
    in; defining: the parts that define a species.
    """
    known, maps = [], []
    for one, peers in asked:
        labels = one.image_set.labels[one.questions.query]
        moved = measures.exchanged(one, listed, parts, seed)
        regions = {"defining": defining, "used": moved.used()}
        known.append((labels, explained.region_masks(labels, parts, regions), moved))
        maps.append(maps_of(one, {name: [peer] for name, peer in peers.items()}))

    def of_places(n: int, found: Tensor) -> measures.Table:
        labels, regions, moved = known[n]
        effects = measures.against_effects(found, labels, moved)
        return measures.on_parts(found, labels, regions) | effects

    scores = measures.gathered(maps, of_places)
    if not wanted.keys() <= scores.keys():
        shares = {"noise": KEPT}
        removed = [measures.removals(a[0], m, shares) for a, m in zip(asked, maps, strict=True)]
        scores |= measures.gathered(removed, lambda n, found: measures.at_shares(found, KEPT))
    return {measure: scores[measure] for measure in wanted}


def _anew(settings: Explaining, name: str) -> Explaining:
    half = {step: max(1, getattr(settings, step) // 2) for step in ("steps", "critic_steps")}
    return replace(settings, **half | OTHERS[name])


def _told_apart(peers: Mapping[str, Peer], explainer: MILR) -> dict[str, Peer]:
    """By what they stand on, which the cache asks for."""
    how = f"{STEPS} {PRICES} {SMOOTH}"
    return {
        name: own.marked(peer, peer.name, explainer, f"{name} {how}")
        for name, peer in peers.items()
    }


def _shared(
    name: str, peer: Peer, offset: tuple[float, float], cell: float, fine: MILR
) -> dict[str, Peer]:
    """A map of a layer, shared out in all ways; cell: pixels of a location of width 1."""
    return {
        f"{name}, {way}": own.shared(peer, offset, fine, width * cell, f"{name}, {way}", power)
        for way, (width, power) in SHARINGS.items()
    }


def _smoothed(peer: Peer) -> Peer:
    def method(model, images, target) -> Tensor:
        maps = peer.method(model, images, target)
        return gaussian_blur(maps[:, None], [5, 5], [SMOOTH, SMOOTH])[:, 0]

    return replace(peer, method=method)
