"""Ways to a better decision map, held against each other on validation species.

What is reported on novel species is chosen here, on images that no report is about.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from milr import MILR
from milr.data.images import ImageSet, content_digest
from milr.evaluation import explained, measures
from milr.evaluation.cases import Case, maps_of
from milr.evaluation.interventions import Picture
from milr.evaluation.summary import Score
from milr.models.explainers import Explaining, explain
from milr.peers import own
from milr.peers.peer import Peer

MEASURES = {
    "lift_clamped": "lift, negatives as 0",
    "mass": "mass",
    "decision": "follows the decision",
    "keep_5": "keep 5 %",
    "keep_10": "keep 10 %",
    "drop_5": "drop 5 %",
}
STEPS = (5, 10, 20)
PRICES = (1 / 3, 3)
SMOOTH = 0.8  # of a location: the deviation of the Gaussian
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
        priced = own.on(explainer, explainer.model, beta=price * explainer.beta)
        found[name] = own.refined(priced, reading="surprise")
    return _told_apart(found, explainer)


def fitted_anew(settings: Explaining, sets: Mapping[str, ImageSet]) -> dict[str, Peer]:
    """Name -> the surprise of another layer, and of other critics, each in half the steps."""
    half = {name: max(1, getattr(settings, name) // 2) for name in ("steps", "critic_steps")}
    found = {}
    for name, changed in OTHERS.items():
        explainer = explain(replace(settings, **half | changed), sets)[1]
        each = {
            f"{name}, surprise": own.amortised(explainer, reading="surprise"),
            f"{name}, refined surprise": own.refined(explainer, reading="surprise"),
        }
        found |= _told_apart(each, explainer)
    return found


def compared(
    asked: Sequence[tuple[Case, Mapping[str, Peer]]],
    listed: Sequence[Picture],
    parts: Sequence[str],
    defining: Sequence[str],
    seed: int = 0,
) -> dict[str, dict[str, Score]]:
    """Measure -> way -> score.

    asked: of each network a case, and the ways, by the same names; places are taken away in the
    layer of the case's explainer. listed: the pictures of the whole image set, to exchange parts
    in; defining: the parts that define a species.
    """
    known, maps = [], []
    for one, peers in asked:
        labels = one.image_set.labels[one.questions.query]
        moved = measures.exchanged(one, listed, parts, seed)
        wanted = {"defining": defining, "used": moved.used()}
        known.append((labels, explained.region_masks(labels, parts, wanted), moved))
        maps.append(maps_of(one, {name: [peer] for name, peer in peers.items()}))

    def of_places(n: int, found: Tensor) -> measures.Table:
        labels, regions, moved = known[n]
        effects = measures.against_effects(found, labels, moved)
        return measures.on_parts(found, labels, regions) | effects

    removed = [measures.removals(one, row) for (one, _), row in zip(asked, maps, strict=True)]
    scores = measures.gathered(maps, of_places)
    scores |= measures.gathered(removed, lambda n, found: measures.after_removal(found))
    return {measure: scores[measure] for measure in MEASURES}


def _told_apart(peers: Mapping[str, Peer], explainer: MILR) -> dict[str, Peer]:
    """By what they stand on, which the cache asks for: the numbers of their own explainer."""
    inserted = explainer.state()["inserted"]
    digest = content_digest(*(v for v in inserted.values() if isinstance(v, Tensor)))
    mark = f"{digest} {STEPS} {PRICES} {SMOOTH}"
    return {name: replace(peer, fitted=f"{name} {mark}") for name, peer in peers.items()}


def _smoothed(peer: Peer) -> Peer:
    def method(model, images, target) -> Tensor:
        maps = peer.method(model, images, target)
        return gaussian_blur(maps[:, None], [5, 5], [SMOOTH, SMOOTH])[:, 0]

    return replace(peer, method=method)
