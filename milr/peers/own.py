"""MI-LR itself by the interface of the peers, so that it is asked and timed as they are.

All explain the model that they are given, with the inserted modules as they were fitted, so that
a model with other parameters gets other maps.
"""

from torch import Tensor, nn

from milr import MILR, readings
from milr.attribution import KINDS
from milr.peers.peer import Peer
from milr.peers.targets import Target


def amortised(explainer: MILR, kind: str = "decision", reading: str = "pointwise") -> Peer:
    """One kind of a fitted explainer's maps, in bits. It sees the image alone.

    Raises ValueError for an unknown kind or reading.
    """
    name = _name("", kind, reading)

    def method(model: nn.Module, images: Tensor, target: Target) -> Tensor:
        return getattr(on(explainer, model).explain(images, reading=reading), kind)

    return Peer(name, explainer.local, "nothing", method, signed=_is_signed(kind, reading))


def refined(
    explainer: MILR, kind: str = "decision", reading: str = "pointwise", **settings
) -> Peer:
    """One kind of the maps with a mask that a few steps fit to each image's own target, in bits.

    As `MILR.refine` does it, with the price that the explainer was fitted with; settings as there.
    It shares the knowledge of the label, or the episode, with the Per-Sample bottleneck. Raises
    ValueError for an unknown kind or reading.
    """
    name = _name("refined ", kind, reading)

    def method(model: nn.Module, images: Tensor, target: Target) -> Tensor:
        def objective(outputs: Tensor, batch: Tensor) -> Tensor:
            return -target(outputs).mean()

        maps = on(explainer, model).refine(images, objective, reading=reading, **settings)
        return getattr(maps, kind)

    return Peer(name, explainer.local, "label", method, signed=_is_signed(kind, reading))


def _name(mask: str, kind: str, reading: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}")
    readings.check(reading)
    return f"MI-LR {mask}{'surprise ' if reading == 'surprise' else ''}{kind}"


def _is_signed(kind: str, reading: str) -> bool:
    return kind == "redundant" or (kind != "capacity" and reading == "pointwise")


def on(explainer: MILR, model: nn.Module, **changed) -> MILR:
    """The modules that an explainer has fitted, around a model, with some settings changed."""
    settings = {name: getattr(explainer, name) for name in ("beta", "critic", "members", "seed")}
    layers = explainer.local, explainer.representation, explainer.evidence
    return MILR(model, *layers, **settings | changed).load_state(explainer.state())
