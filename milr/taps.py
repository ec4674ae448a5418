"""Read and replace the output of layers of a model that stays as it was.

Everything here is a context: what it changes is put back when it ends, also by an exception.
"""

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from milr.maps import MIDDLE

# What changes the model, or its outputs, with each pass in training mode.
_CHANGING = (
    nn.modules.batchnorm._NormBase,
    nn.modules.dropout._DropoutNd,
    nn.utils.parametrizations._SpectralNorm,
    StochasticDepth,
)


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """The module of that name in `model.named_modules()`.

    Raises ValueError that names the nearest layers if there is none.
    """
    layers = dict(model.named_modules())
    if name in layers and name:
        return layers[name]
    names = [known for known in layers if known]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names[:5]
    raise ValueError(f"the model has no layer {name!r}; the nearest names are {', '.join(near)}")


@contextmanager
def read(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Within it, running the model once fills the yielded dict with the layers' outputs.

    Layer -> its output in the shape that it has: maps (B, C, H, W), tokens (B, N, C) or any other.
    They are copies: what later layers do in place (`nn.ReLU(inplace=True)`, `x += ...`) does not
    change them. Clear the dict before the next run. Raises ValueError for an unknown layer,
    RuntimeError for a layer that runs a second time or gives something else than a tensor, and, at
    the end of the context, for one that never ran.
    """
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable:
        def hook(module, inputs, output):
            if name in outputs:
                raise RuntimeError(
                    f"layer {name!r} ran twice in one pass of the model; name a layer that runs "
                    "once, such as one of its uses' parents"
                )
            outputs[name] = _tensor(output, name).clone()

        return hook

    with ExitStack() as stack:
        for name in dict.fromkeys(names):
            handle = find_layer(model, name).register_forward_hook(keep(name))
            stack.callback(handle.remove)
        yield outputs
        for name in names:
            if name not in outputs:
                raise RuntimeError(f"layer {name!r} never ran; is it used by the model's forward?")


@contextmanager
def replace(model: nn.Module, name: str, function: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within it, the layer's output is `function(output)` for all that comes after it.

    Raises ValueError for an unknown layer, and RuntimeError when the layer gives something else
    than a tensor.
    """

    def hook(module, inputs, output):
        return function(_tensor(output, name))

    handle = find_layer(model, name).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def frozen(model: nn.Module, device: torch.device | None = None) -> Iterator[nn.Module]:
    """The model without gradients of its own, on `device`; afterwards as it was, bit for bit.

    Raises ValueError for dropout, or normalisation that learns from what it sees, in training mode:
    each pass would change the model, or its outputs, and z would not be one thing.
    """
    for name, module in model.named_modules():
        attention = isinstance(module, nn.MultiheadAttention) and module.dropout > 0
        if module.training and (attention or isinstance(module, _CHANGING)):
            raise ValueError(
                f"layer {name!r} ({type(module).__name__}) is in training mode; "
                "call model.eval() before explaining the model"
            )
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    home = device_of(model)
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield model.to(device or home)
    finally:
        model.to(home)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter lies; the CPU for a model without parameters."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def offset(model: nn.Module, layer: str, images: Tensor) -> tuple[float, float]:
    """Where in its cell a location of a layer's maps looks, down and across, in shares of the cell.

    Cells are the even division of the image by the layer's grid. (0.5, 0.5), the middle, is where
    patches and even pools look; padded convolutions of odd size with a stride s look at 0.5 / s,
    near the corner. It is found by marking rows and columns of images (B, C, H, W) as NaN and
    seeing which locations they reach, so it depends on no weight. The middle is also said where
    this tells nothing: of tokens, of grids that do not divide the image, of locations that see up
    to its edges (deep layers), and behind layers that mix all places (attention, group norm).
    The model is frozen, in evaluation mode; nothing after the layer is run.
    """
    if images.dim() != 4 or not images.is_floating_point():
        return MIDDLE
    some = images[:4]
    cells = _output(model, layer, some).shape[2:]
    if len(cells) != 2:
        return MIDDLE
    down, across = (_offset_along(model, layer, some, axis, cells[axis - 2]) for axis in (2, 3))
    return down, across


def _offset_along(model: nn.Module, layer: str, images: Tensor, axis: int, cells: int) -> float:
    middle = MIDDLE[0]
    stride, rest = divmod(images.shape[axis], cells)
    if rest or cells == 1:
        return middle
    found = []
    # A whole stride of neighbours, so that rounding to whole locations averages out.
    for places in (images.shape[axis] // 2 + torch.arange(stride)).split(len(images)):
        marked = images.clone()
        for image, place in zip(marked, places.tolist(), strict=False):
            image.select(axis - 1, place).fill_(torch.nan)
        reached = _output(model, layer, marked).isnan().any(1).any(4 - axis)[: len(places)].cpu()
        if reached[:, [0, -1]].any():
            return middle
        first, last = reached.int().argmax(1), cells - 1 - reached.int().flip(1).argmax(1)
        looks = (places + 0.5) / stride - (first + last) / 2
        found.append(looks[reached.any(1)])
    return float(torch.cat(found).mean()) if any(map(len, found)) else middle


class _Reached(Exception):
    """A layer has run, and what comes after it need not."""


def _output(model: nn.Module, layer: str, images: Tensor) -> Tensor:
    found = []

    def stop(output: Tensor) -> Tensor:
        found.append(output)
        raise _Reached

    # Fast convolutions multiply what lies beside a window by 0, which spreads a NaN: cuDNN's work
    # on tiles, those in bfloat16 on blocks of the channels.
    plain = torch.autocast(images.device.type, enabled=False)
    exact = torch.backends.cudnn.flags(enabled=False)
    with replace(model, layer, stop), torch.no_grad(), plain, exact, suppress(_Reached):
        model(images)
    return found[0]


def as_locations(features: Tensor, name: str) -> Tensor:
    """Feature maps (B, C, H, W) or tokens (B, N, C) as locations (B, N, C), N = H W for maps.

    name: of their layer, for the message. Raises ValueError for another shape.
    """
    if features.dim() == 4:
        return features.flatten(2).transpose(1, 2)
    if features.dim() == 3:
        return features
    raise ValueError(
        f"layer {name!r} gives shape {tuple(features.shape)}; local features must be maps "
        "(B, C, H, W) or tokens (B, N, C)"
    )


def as_features(locations: Tensor, like: Tensor) -> Tensor:
    """Locations (B, N, C) back in the shape of `like`, maps (B, C, H, W) or tokens (B, N, C)."""
    if like.dim() == 4:
        return locations.transpose(1, 2).reshape(like.shape)
    return locations


def _tensor(output, name: str) -> Tensor:
    if not isinstance(output, Tensor):
        raise RuntimeError(
            f"layer {name!r} gives a {type(output).__name__}; only layers whose output is a tensor "
            "can be read or replaced"
        )
    return output
