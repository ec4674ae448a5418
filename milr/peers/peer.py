"""One small interface for everything that the method is held against.

A peer is asked as `peer.maps(model, images, target)`: the same images, the same scalar to explain,
maps at the images' resolution. The model is copied first and the copy is made fit for libraries
that replace gradients: the model itself stays as it is, bit for bit, and keeps no hook.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from milr import taps
from milr.maps import resize
from milr.peers.targets import Target

NEEDS = ("label", "nothing")
Method = Callable[[nn.Module, Tensor, Target], Tensor]
_OFFSETS: WeakKeyDictionary = WeakKeyDictionary()


@dataclass(frozen=True)
class Peer:
    """A method that explains images.

    name:   as tables show it
    layer:  where its map lies: "input", or the name of a layer, whose grid is coarser
    needs:  "label" if it explains the target that it is given, "nothing" if it ignores it
    method: called with a copy of the model, images (B, C, H, W) on its device and their target;
            gives (B, h, w), a location's own value, at any resolution
    signed: whether negative values speak against the target; else they cannot occur
    fitted: digest of what was fitted before it explains; "" for methods that fit nothing

    Raises ValueError for other needs.
    """

    name: str
    layer: str
    needs: str
    method: Method
    signed: bool = False
    fitted: str = ""

    def __post_init__(self):
        if self.needs not in NEEDS:
            raise ValueError(f"needs is {self.needs!r}; it must be one of {', '.join(NEEDS)}")

    def maps(
        self, model: nn.Module, images: Tensor, target: Target, batch_size: int = 32
    ) -> Tensor:
        """Maps (B, H, W) float32 on the CPU of normalised images (B, C, H, W).

        From a layer's grid they are brought to the pixels as `Maps.resized` does: bilinear, and
        each value to where its location looks. What is drawn at random is drawn from a fixed seed.
        Raises ValueError for batch normalisation or dropout in training mode, or if images and
        target differ in number.
        """
        if len(images) != len(target):
            raise ValueError(f"{len(images)} images and a target of {len(target)}; give one each")
        ready = prepared(model, images[:1])
        device = taps.device_of(ready)
        found = []
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for start in range(0, len(images), batch_size):
                rows = slice(start, start + batch_size)
                chunk = images[rows].detach().to(device)
                maps = self.method(ready, chunk, target[rows].to(device))
                found.append(maps.detach().float().cpu())
        maps, size = torch.cat(found), tuple(images.shape[-2:])
        if tuple(maps.shape[-2:]) == size or self.layer == "input":
            return resize(maps, size)
        return resize(maps, size, _offset(model, self.layer, images))


def _offset(model: nn.Module, layer: str, images: Tensor) -> tuple[float, float]:
    """`taps.offset`, found out once for a model, so that it is no cost of an explanation."""
    known = _OFFSETS.setdefault(model, {})
    key = (layer, *images.shape[1:])
    if key not in known:
        with taps.frozen(model):
            known[key] = taps.offset(model, layer, images[:4].to(taps.device_of(model)))
    return known[key]


class InTurn(nn.Module):
    """As many rectifiers as a pass uses one, which take turns."""

    def __init__(self, uses: int):
        super().__init__()
        self.each = nn.ModuleList(nn.ReLU() for _ in range(uses))
        self.turn = 0

    def forward(self, x: Tensor) -> Tensor:
        """x, of any shape, with what is negative at 0, by the rectifier whose turn it is."""
        rectifier = self.each[self.turn]
        self.turn = (self.turn + 1) % len(self.each)
        return rectifier(x)


def prepared(model: nn.Module, image: Tensor) -> nn.Module:
    """A frozen copy of the model that gives the same outputs, and in which no rectifier is shared.

    image: (1, C, H, W), to see how often each is used. torchvision's residual blocks use one
    in-place rectifier several times, but DeepLift, guided backpropagation and layer-wise relevance
    each need to know which use a gradient comes from, and the input of it. They find rectifiers
    that are modules: where a model calls `torch.nn.functional.relu`, they are ordinary gradients.
    Raises ValueError for batch normalisation or dropout in training mode.
    """
    with taps.frozen(model):
        ready = copy.deepcopy(model)
    uses: dict[nn.Module, int] = {}
    names = {
        name: module
        for name, module in ready.named_modules(remove_duplicate=False)
        if isinstance(module, nn.ReLU)
    }

    def count(module, inputs, output):
        uses[module] = uses.get(module, 0) + 1

    handles = [module.register_forward_hook(count) for module in set(names.values())]
    with torch.no_grad():
        ready(image.to(taps.device_of(ready)))
    for handle in handles:
        handle.remove()
    fresh = {module: InTurn(uses.get(module, 1)) for module in names.values()}
    for name, module in names.items():
        ready.set_submodule(name, fresh[module])
    return ready


class Scored(nn.Module):
    """Model and target as one module, images (B, ...) and context to scalars (B,), for captum."""

    def __init__(self, model: nn.Module, target: Target):
        super().__init__()
        self.model, self.score = model, target.score

    def forward(self, images: Tensor, *context: Tensor) -> Tensor:
        """The target's scalars (B,) of images (B, ...), with a row of the context for each."""
        return self.score(self.model(images), *context)
