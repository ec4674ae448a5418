"""Read and replace the output of layers of a model that stays as it was.

Everything here is a context: what it changes is put back when it ends, also by an exception.
"""

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import torch
from torch import Tensor, nn

from milr.maps import MIDDLE

# Of torch's own layers, those that do something else in training mode.
_CHANGING = (
    nn.modules.batchnorm._NormBase,
    nn.modules.dropout._DropoutNd,
    nn.utils.parametrizations._SpectralNorm,
    nn.RReLU,
)


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """The module of that name in `model.named_modules()`.

    Raises ValueError that names the nearest layers if there is none.
    """
    if not isinstance(name, str):
        raise ValueError(
            f"a layer is named by {name!r}; give its name as model.named_modules() has it, such as "
            f"{str(name)!r}"
        )
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
    change them. Clear the dict before the next run. Raises ValueError for an unknown layer or one
    that gives nested tensors, RuntimeError for a layer that runs a second time or gives something
    else than a tensor, and, at the end of the context, for one that never ran.
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

    Raises ValueError for an unknown layer or one that gives nested tensors, and RuntimeError when
    it gives something else than a tensor.
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

    What its passes write to buffers (counts, averages) is put back, too.
    Raises ValueError for a model, or a part of it, in training mode (of torch's own layers those
    alone to which it matters), and for batch normalisation that keeps no statistics: the model, its
    outputs, or what an image gives beside others would change, and z would not be one thing.
    """
    _check_still(model)
    # Those of inference mode can't have a gradient, and can't be given their flag back.
    changed = [p for p in model.parameters() if p.requires_grad and not p.is_inference()]
    home = device_of(model)
    # Not of a model that is to stay: its parts may lie on several devices.
    moves = device is not None and device != home
    try:
        for parameter in changed:
            parameter.requires_grad_(False)
        if moves:
            move(model, device)
        with _buffers_kept(model):
            yield model
    finally:
        if moves:
            move(model, home)
        for parameter in changed:
            parameter.requires_grad_(True)


def move(module: nn.Module, device: torch.device) -> None:
    """To the device, with parameters that can still learn also where the caller is in inference."""
    with torch.inference_mode(False):
        module.to(device)


def _check_still(model: nn.Module) -> None:
    for name, module in reversed(list(model.named_modules())):
        if module.training and _may_change(module):
            raise ValueError(
                f"{f'layer {name!r}' if name else 'the model'} ({type(module).__name__}) is in "
                "training mode; call model.eval() before explaining the model"
            )
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise ValueError(
                f"layer {name!r} ({type(module).__name__}) has no running statistics, so that what "
                "an image gives depends on the images beside it; use one that tracks them"
            )


def _may_change(module: nn.Module) -> bool:
    """Whether a module may do something else in training mode: any that is not torch's own may."""
    if isinstance(module, nn.RNNBase | nn.MultiheadAttention):
        return module.dropout > 0
    own = type(module).__module__.startswith("torch.") and not module._forward_pre_hooks
    return not own or isinstance(module, _CHANGING)


@contextmanager
def _buffers_kept(model: nn.Module) -> Iterator[None]:
    kept = [
        (module, name, buffer, buffer._version, buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and not buffer.is_inference()
    ]
    try:
        yield
    finally:
        for module, name, buffer, version, before in kept:
            if buffer._version != version:
                with torch.no_grad():
                    buffer.copy_(before)
            if module._buffers[name] is not buffer:
                module._buffers[name] = buffer


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
    to its edges (deep layers), behind layers that mix all places (attention, group norm), and of
    models that refuse NaN.
    The model is frozen, in evaluation mode; nothing after the layer is run.
    """
    if images.dim() != 4 or not images.is_floating_point():
        return MIDDLE
    some = images[:4]
    cells = _output(model, layer, some).shape[2:]
    if len(cells) != 2:
        return MIDDLE
    try:
        down, across = (_offset_along(model, layer, some, axis, cells[axis - 2]) for axis in (2, 3))
    except Exception:  # of whatever kind a model has to refuse NaN
        return MIDDLE
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


def reached_in_part(model: nn.Module, layer: str, images: Tensor) -> list[bool]:
    """Of a layer's axes behind the first: which does the end of an image reach in part alone?

    The end is the last eighth of the first axis behind the channels: rows of images (B, C, H, W),
    places of signals (B, C, L); it is marked as NaN. In maps (B, C, H, W) it is the rows that are
    reached in part, in (B, H, W, C) they come first. Behind layers that mix all places it is none.
    Empty for other images, and for models that refuse NaN.
    The model is frozen, in evaluation mode; nothing after the layer is run.
    """
    if images.dim() not in (3, 4) or not images.is_floating_point():
        return []
    marked = images[:1].clone()
    marked[:, :, -max(1, images.shape[2] // 8) :] = torch.nan
    try:
        reached = _output(model, layer, marked).isnan()
    except Exception:  # of whatever kind a model has to refuse NaN
        return []
    along = [reached.movedim(axis, 0).flatten(1).any(1) for axis in range(1, reached.dim())]
    return [bool(one.any() and not one.all()) for one in along]


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
    with replace(model, layer, stop), torch.no_grad(), plain, _no_cudnn(), suppress(_Reached):
        model(images.clone())  # a model may prepare its images in place
    return found[0]


@contextmanager
def _no_cudnn():
    """torch's own context for this asks for all settings, and fails if TF32's are set by kind."""
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


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


def laid_out(values: Tensor, like: Tensor) -> Tensor:
    """A copy of values with the dtype of `like` and its dimensions' order in memory.

    Without that order, later layers that take a `view` could not work on it. values: of any shape
    with as many dimensions. Gradients go through.
    """
    order = like.dim_order()
    made = torch.empty_permuted(values.shape, order, dtype=like.dtype, device=like.device)
    return made.copy_(values)


def _tensor(output, name: str) -> Tensor:
    if not isinstance(output, Tensor):
        raise RuntimeError(
            f"layer {name!r} gives a {type(output).__name__}; only layers whose output is a tensor "
            "can be read or replaced: name one inside it, or one that takes its place, such as an "
            "nn.Identity() around which the model's forward puts the tensor"
        )
    if output.is_nested:
        raise ValueError(
            f"layer {name!r} gives nested tensors, which leave out what is padded, so that images "
            "have no locations in common; make the encoder with enable_nested_tensor=False"
        )
    return output
