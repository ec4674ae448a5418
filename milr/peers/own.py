"""MI-LR itself by the interface of the peers, so that it is asked and timed as they are.

Both explain the model that they are given, with the inserted modules as they were fitted, so that
a model with other parameters gets other maps.
"""

from torch import Tensor, nn

from milr import MILR, taps
from milr.attribution import KINDS
from milr.peers import schulz
from milr.peers.peer import Peer
from milr.peers.targets import Target

# Sigmoids that are further out than this hardly move within a few steps.
FARTHEST = 6.0


def amortised(explainer: MILR, kind: str = "decision") -> Peer:
    """One kind of a fitted explainer's maps, in bits. It sees the image alone.

    Raises ValueError for an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}")

    def method(model: nn.Module, images: Tensor, target: Target) -> Tensor:
        return getattr(_on(explainer, model).explain(images), kind)

    return Peer(f"MI-LR {kind}", explainer.local, "nothing", method, signed=kind != "capacity")


def refined(
    explainer: MILR,
    *,
    beta: float = schulz.BETA,
    steps: int = 5,
    draws: int = 4,
    learning_rate: float = 0.5,
) -> Peer:
    """Capacity of the mask after a few steps for each image's own target, in bits.

    It starts from the mask that the explainer infers from the image, and then does as the
    Per-Sample bottleneck does, whose knowledge of the label or the episode it shares. Settings as
    for `milr.peers.schulz.best_keep`; without blur, as the explainer has none.
    """
    found = explainer.state()["inserted"]
    moments = found["local mean"], found["local std"]

    def method(model: nn.Module, images: Tensor, target: Target) -> Tensor:
        local = schulz.outputs_of(model, images, (explainer.local,))[0]
        inferred = _on(explainer, model).keep(images).to(local.device)
        start = taps.as_features(inferred.logit().clamp(-FARTHEST, FARTHEST), local)
        keep = schulz.best_keep(
            model, explainer.local, images, target, moments, beta=beta, steps=steps, draws=draws,
            learning_rate=learning_rate, blur=0.0, start=start,
        )  # fmt: skip
        return schulz.bits(local, keep, moments)

    return Peer("MI-LR refined", explainer.local, "label", method)


def refined_decision(explainer: MILR, **settings) -> Peer:
    """The decision map of a mask that a few steps fit to each image's own target, in bits.

    As `MILR.refine` does it, with the price that the explainer was fitted with; settings as there.
    """

    def method(model: nn.Module, images: Tensor, target: Target) -> Tensor:
        def objective(outputs: Tensor, batch: Tensor) -> Tensor:
            return -target(outputs).mean()

        return _on(explainer, model).refine(images, objective, **settings).decision

    return Peer("MI-LR refined decision", explainer.local, "label", method, signed=True)


def _on(explainer: MILR, model: nn.Module) -> MILR:
    names = ("beta", "critic", "members", "seed")
    settings = {name: getattr(explainer, name) for name in names}
    layers = explainer.local, explainer.representation, explainer.evidence
    return MILR(model, *layers, **settings).load_state(explainer.state())
