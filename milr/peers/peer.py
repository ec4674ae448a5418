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

from milr import doors, taps
from milr.maps import MIDDLE, resize
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
    fitted: digest of what was fitted before it explains, where the cache has to tell it apart
            by this alone; "" for methods that fit nothing, and for an explainer's own maps

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
        Raises ValueError for a model in training mode, images that are no (B, C, H, W), a target
        of another number, or a method or layer that gives no maps.
        """
        _check_asked(images, target, batch_size)
        # Gradients are needed, whatever the mode is in which the maps are asked.
        with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng():
            offset = MIDDLE if self.layer == "input" else _offset(model, self.layer, images)
            ready = prepared(model, images[:1])
            device = taps.device_of(ready)
            found = []
            torch.manual_seed(0)
            for start in range(0, len(images), batch_size):
                rows = slice(start, start + batch_size)
                chunk = images[rows].detach().clone().to(device)
                maps = self.method(ready, chunk, target[rows].to(device).cloned())
                if maps.dim() != 3:
                    raise ValueError(
                        f"{self.name} gives shape {tuple(maps.shape)} and no maps (B, h, w)"
                    )
                found.append(maps.detach().float().cpu())
        maps, size = torch.cat(found), tuple(images.shape[-2:])
        return resize(maps, size, MIDDLE if tuple(maps.shape[-2:]) == size else offset)


def _check_asked(images: Tensor, target: Target, batch_size: int) -> None:
    doors.images(images)
    doors.whole(1, batch_size=batch_size)
    if images.dim() != 4:
        raise ValueError(f"the images have shape {tuple(images.shape)}; give (B, C, H, W)")
    if not isinstance(target, Target):
        raise ValueError(
            f"the target is a {type(target).__name__}; give a Target, such as class_logit(labels)"
        )
    if len(images) != len(target):
        raise ValueError(f"{len(images)} images and a target of {len(target)}; give one each")


def _offset(model: nn.Module, layer: str, images: Tensor) -> tuple[float, float]:
    """`taps.offset`, found out once for a model, so that it is no cost of an explanation."""
    known = _OFFSETS.setdefault(model, {})
    key = (layer, *images.shape[1:])
    if key not in known:
        some = images[:4].detach().clone().to(taps.device_of(model))
        with taps.frozen(model), torch.no_grad(), taps.read(model, (layer,)) as outputs:
            model(some)
        if outputs[layer].dim() != 4:
            raise ValueError(
                f"layer {layer!r} gives shape {tuple(outputs[layer].shape)}; name one that gives "
                "maps (B, C, H, W)"
            )
        with taps.frozen(model):
            known[key] = taps.offset(model, layer, some)
    return known[key]


class InTurn(nn.Module):
    """As many of a layer without numbers as a pass uses one, which take turns."""

    def __init__(self, layer: nn.Module, uses: int):
        super().__init__()
        self.each = nn.ModuleList(copy.deepcopy(layer) for _ in range(uses))
        for each in self.each:
            if hasattr(each, "inplace"):
                each.inplace = False
        self.turn = 0
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """x, of any shape, through the layer whose turn it is."""
        layer = self.each[self.turn]
        self.turn = (self.turn + 1) % len(self.each)
        return layer(x)


def prepared(model: nn.Module, image: Tensor) -> nn.Module:
    """A frozen copy of the model that gives the same outputs, and in which no rectifier is shared.

    image: (1, C, H, W), to see how often each is used. torchvision's residual blocks use one
    in-place rectifier several times, but DeepLift, guided backpropagation and layer-wise relevance
    each need to know which use a gradient comes from, and the input of it. So it is with other
    layers of torch that have no numbers (pooling, sigmoids). They find layers that are modules:
    where a model calls `torch.nn.functional.relu`, it is an ordinary gradient.
    Raises ValueError for a model in training mode, or whose copy gives other outputs.
    """
    with taps.frozen(model):
        ready = copy.deepcopy(model)
    image = image.detach().to(taps.device_of(ready))
    names = {
        name: module
        for name, module in ready.named_modules(remove_duplicate=False)
        if name and _is_plain(module)
    }
    expected, uses = _outputs_and_uses(ready, image, set(names.values()))
    fresh = {
        module: InTurn(module, uses.get(module, 1))
        for module in uses.keys() | names.values()
        if type(module) is nn.ReLU or uses.get(module, 0) > 1 or getattr(module, "inplace", False)
    }
    for name, module in names.items():
        if module in fresh:
            ready.set_submodule(name, fresh[module])
    with torch.no_grad(), doors.noted(image):
        found = ready(image)
    if isinstance(found, Tensor) and not is_close(found, expected):
        raise ValueError(
            "the copy of the model that methods are asked of gives other outputs than the model, "
            "which may rely on what a layer does in place; write it with inplace=False"
        )
    return ready


def _is_plain(module: nn.Module) -> bool:
    """Whether it is a layer of torch itself with nothing in it, or hung on it, that must stay."""
    own = type(module).__module__.startswith("torch.nn.modules.")
    hooks = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
    inside = any(module.children()) or any(True for _ in module.parameters())
    return own and not hooks and not inside and not any(True for _ in module.buffers())


def _outputs_and_uses(ready: nn.Module, image: Tensor, layers: set[nn.Module]) -> tuple:
    """The outputs for an image, and how often a pass uses each layer."""
    uses: dict[nn.Module, int] = {}

    def count(module, inputs, output):
        uses[module] = uses.get(module, 0) + 1

    handles = [module.register_forward_hook(count) for module in layers]
    with torch.no_grad(), doors.noted(image):
        outputs = ready(image)
    for handle in handles:
        handle.remove()
    return outputs, uses


def is_close(found: Tensor, expected: Tensor, share: float = 1e-3) -> bool:
    """But for rounding, up to a share of the largest."""
    size = float(expected.abs().nan_to_num(0, 0, 0).max()) if expected.numel() else 0.0
    return torch.allclose(found, expected, rtol=0, atol=share * size, equal_nan=True)


class Scored(nn.Module):
    """Model and target as one module, images (B, ...) and context to scalars (B,), for captum."""

    def __init__(self, model: nn.Module, target: Target):
        super().__init__()
        self.model, self.score = model, target.score

    def forward(self, images: Tensor, *context: Tensor) -> Tensor:
        """The target's scalars (B,) of images (B, ...), with a row of the context for each."""
        return self.score(self.model(images), *context)
