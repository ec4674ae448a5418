"""What is checked before any work begins: an error that comes late has cost the whole fit."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from milr import taps
from milr.distributed import devices


def layers(model: nn.Module, *names: str) -> None:
    """Raises ValueError unless the model is a module that has layers of these names."""
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"model is a {_kind(model)}; give a torch.nn.Module, whose layers have names"
        )
    for name in names:
        taps.find_layer(model, name)


def whole(least: int, **counts: int) -> None:
    """Raises ValueError unless each is a whole number, and not below the least."""
    for name, count in counts.items():
        if not isinstance(count, Integral):
            raise ValueError(f"{name} is {count!r}; give a whole number, {least} or more")
        if count < least:
            raise ValueError(f"{name} is {count}; give {least} or more")


def positive(advice: str, **values: float) -> None:
    """Raises ValueError, with the advice, unless each is a finite number above 0."""
    for name, value in values.items():
        if not 0 < number(value) < math.inf:
            raise ValueError(f"{name} is {value!r}; it must be a finite number above 0 ({advice})")


def number(value) -> float:
    """What was given as a number, NaN if it is none."""
    try:
        return math.nan if isinstance(value, str) else float(value)
    except (RuntimeError, TypeError, ValueError):  # a tensor of several, None, an array
        return math.nan


def seed(value: int) -> None:
    """Raises ValueError unless random numbers (of torch and of scikit-learn) can start from it."""
    whole(0, seed=value)
    if value >= 2**32:  # scikit-learn takes no more
        raise ValueError(f"seed is {value}; give a whole number from 0 to below 2**32")


def device(value: object) -> None:
    """Raises ValueError for a kind of device that this machine lacks."""
    if str(value).partition(":")[0] not in devices():
        raise ValueError(f"device is {value!r}; this machine offers {', '.join(devices())}")


def share(name: str, value: float) -> None:
    """Raises ValueError unless it is a number from 0 to 1."""
    if not isinstance(value, Real) or not 0 <= value <= 1:
        raise ValueError(f"{name} is {value!r}; give a share from 0 to 1")


def images(given) -> None:
    """Raises ValueError unless it is a tensor with the images first, and holds one at least."""
    if not isinstance(given, Tensor):
        raise ValueError(
            f"the images are a {_kind(given)}; give a tensor (B, ...), the images first, such as "
            f"{_tensor_of(given)}"
        )
    if given.dim() < 2:
        raise ValueError(
            f"the images have shape {tuple(given.shape)}; give a tensor (B, ...), the images first "
            "(of one image, image[None])"
        )
    if not len(given):
        raise ValueError("there are no images; give at least one")


def _tensor_of(given) -> str:
    if isinstance(given, Mapping):
        return 'batch["images"]'
    if not isinstance(given, Sequence):
        return "torch.as_tensor(images) makes"
    shapes = [tuple(getattr(one, "shape", ())) for one in given]
    if shapes and len(set(shapes)) == 1 and len(shapes[0]) > 1:
        if all(isinstance(one, Tensor) for one in given):
            return "torch.stack(images) makes"
        return "torch.stack([torch.as_tensor(image) for image in images]) makes"
    if shapes and len({len(shape) for shape in shapes}) == 1 and len(shapes[0]) > 1:
        return "torch.stack(images) makes of images that were brought to one size"
    # A whole batch, of images and labels.
    return "batch[0]" if shapes and len(shapes[0]) > 1 else "torch.stack(images) makes"


def batches(given) -> None:
    """Raises ValueError for what is no collection of batches."""
    how = "give a list of batches, or DataLoader(dataset, 32, shuffle=True, drop_last=True)"
    if isinstance(given, Tensor | Mapping):
        raise ValueError(f"batches is a single {_kind(given)}; {how}")
    if isinstance(given, Dataset) and not isinstance(given, IterableDataset):
        raise ValueError(f"batches is a {_kind(given)}, which gives single samples; {how}")
    if not hasattr(given, "__iter__") and not hasattr(given, "__getitem__"):
        raise ValueError(f"batches is a {_kind(given)}; {how}")


def objective(given) -> None:
    """Raises ValueError for what can't be called."""
    if not callable(given):
        raise ValueError(
            f"the objective is {given!r}; give a function of the model's outputs and the batch"
        )


def learning(model: nn.Module) -> None:
    """Raises ValueError where no gradient can be had at all."""
    if torch.is_inference_mode_enabled():
        raise ValueError(
            "torch.inference_mode() is on, in which nothing can learn; leave it, or use "
            "torch.no_grad() there"
        )
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise ValueError(
            "the model was made under torch.inference_mode(), so that no gradient goes through it; "
            "make it, or copy.deepcopy it, outside"
        )


@contextmanager
def noted(given: Tensor) -> Iterator[None]:
    """Within it, what the model itself raises says what it was given."""
    try:
        yield
    except Exception as error:
        error.add_note(
            f"The model was given images of shape {tuple(given.shape)} and {given.dtype}; give "
            "them as it takes them, the images first (of one image, image[None])."
        )
        raise


def tensor(outputs) -> None:
    """Raises ValueError for outputs of a model that are no tensor."""
    if not isinstance(outputs, Tensor):
        raise ValueError(
            f"the model gives a {_kind(outputs)}, of which there is no telling what to return; "
            "explain a module around the model that gives the tensor you want"
        )


def mask(keep: Tensor, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless it is of this shape, and between 0 and 1 everywhere."""
    if not isinstance(keep, Tensor):
        raise ValueError(f"keep is a {type(keep).__name__}; give a tensor of shape {shape}")
    if keep.shape != shape:
        raise ValueError(
            f"keep has shape {tuple(keep.shape)}; give one number for each image, location and "
            f"channel, {shape}"
        )
    low, high = keep.min(), keep.max()
    if not (low >= 0 and high <= 1):  # also for NaN
        raise ValueError(
            f"keep lies between {low:g} and {high:g}; give shares between 0 (all noise) and 1 "
            "(all of the feature)"
        )


def _kind(given) -> str:
    return type(given).__name__
