"""MI-LR itself by the interface of the peers, so that it is asked and timed as they are.

All explain the model that they are given, with the inserted modules as they were fitted, so that
a model with other parameters gets other maps.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

from torch import Tensor, nn

from milr import MILR, maps, readings
from milr.attribution import KINDS
from milr.data.images import content_digest
from milr.maps import resize
from milr.peers.peer import Peer
from milr.peers.targets import Target

# Of the questions asked so far, within `masks_kept`.
_MASKS: ContextVar[dict | None] = ContextVar("masks", default=None)


def amortised(explainer: MILR, kind: str = "decision", reading: str = "pointwise") -> Peer:
    """One kind of a fitted explainer's maps, in bits. It sees the image alone.

    Raises ValueError for an unknown kind or reading.
    """
    name = _name("", kind, reading)

    def method(model: nn.Module, images: Tensor, target: Target) -> Tensor:
        asked = explainer.around(model)
        if kind == "total":
            return asked.total(images, reading=reading)
        return getattr(asked.explain(images, reading=reading), kind)

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

        asked = explainer.around(model)

        def question() -> tuple:
            numbers = content_digest(images, *target.context, *model.state_dict().values())
            return explainer, target.score, tuple(settings.items()), numbers

        keep = _mask_of(
            question,
            lambda: asked.refine_keep(images, objective, **settings),
        )
        draws = settings.get("draws", 4)
        return getattr(asked.explain(images, draws, reading=reading, keep=keep), kind)

    return Peer(name, explainer.local, "label", method, signed=_is_signed(kind, reading))


def shared(
    peer: Peer,
    offset: tuple[float, float],
    explainer: MILR,
    width: float,
    name: str,
    power: float = 2.0,
) -> Peer:
    """Maps of a layer shared out by what an explainer of a finer layer knows at each place.

    As `milr.maps.shared` does it, by the surprise total; width (in pixels of the images) and power
    as there. offset: where the locations of the peer's layer look (`MILR.offset`).
    name: of the new peer.
    """

    def method(model: nn.Module, images: Tensor, target: Target) -> Tensor:
        size = tuple(images.shape[-2:])
        found = resize(peer.method(model, images, target).cpu(), size, offset)
        finer = explainer.around(model).total(images, reading="surprise")
        return maps.shared(found, resize(finer, size, explainer.offset), width, power)

    made = replace(peer, layer="input", method=method)
    how = f"{peer.name} {peer.fitted} shared out over {width:g} pixels by power {power:g}"
    return marked(made, name, explainer, how)


def marked(peer: Peer, name: str, explainer: MILR, how: str = "") -> Peer:
    """The peer by another name, told from others by the numbers of its own explainer, and `how`."""
    numbers = [v for v in explainer.state()["inserted"].values() if isinstance(v, Tensor)]
    return replace(peer, name=name, fitted=f"{content_digest(*numbers)} {how}".strip())


@contextmanager
def masks_kept() -> Iterator[None]:
    """Within it, the refined peers of an explainer share the steps that they make for a question.

    Several kinds and readings of one mask then cost little more than one. Not for timing.
    """
    token = _MASKS.set({})
    try:
        yield
    finally:
        _MASKS.reset(token)


def _mask_of(question: Callable[[], tuple], make: Callable[[], Tensor]) -> Tensor:
    found = _MASKS.get()
    if found is None:
        return make()
    asked = question()
    if asked not in found:
        found[asked] = make()
    return found[asked]


def _name(mask: str, kind: str, reading: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}")
    readings.check(reading)
    return f"MI-LR {mask}{'surprise ' if reading == 'surprise' else ''}{kind}"


def _is_signed(kind: str, reading: str) -> bool:
    return kind == "redundant" or (kind != "capacity" and reading == "pointwise")
