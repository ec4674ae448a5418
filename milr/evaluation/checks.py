"""What every measure asks of its inputs: else a wrong number would come out, and no error."""

from collections.abc import Sequence

import torch
from torch import Tensor

# Rounding, in masks that were brought to another resolution.
ROUNDING = 1e-6


def maps(given: Tensor) -> None:
    """Raises ValueError unless these are maps (B, H, W), or (B, N), of finite numbers."""
    if not isinstance(given, Tensor) or given.dim() < 2:
        what = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
        raise ValueError(
            f"the maps are {what}; give a tensor (B, H, W), such as one kind of `Maps.resized`"
        )
    if bad := int((~given.isfinite()).sum()):
        raise ValueError(f"{bad} of {given.numel()} values of the maps are not finite; mend those")


def placed(given: Tensor) -> None:
    """Raises ValueError unless these are maps (B, H, W) of finite numbers, and none of tokens."""
    maps(given)
    if given.dim() != 3:
        raise ValueError(
            f"maps of shape {tuple(given.shape)} have no places in the image; give (B, H, W), of "
            "tokens as the model lays them out"
        )


def one_each(**counts: int) -> None:
    """Raises ValueError unless all counts are the same."""
    if len(set(counts.values())) > 1:
        said = " and ".join(f"{count} {name}" for name, count in counts.items())
        raise ValueError(f"{said}; give one of each for each image")


def masks(given: Tensor) -> None:
    """Raises ValueError unless these are masks (B, h, w), Boolean or shares from 0 to 1."""
    if given.dim() != 3:
        raise ValueError(f"the masks have shape {tuple(given.shape)}; give (B, h, w)")
    if not given.numel():
        return
    low, high = float(given.min()), float(given.max())
    if not -ROUNDING <= low <= high <= 1 + ROUNDING:  # also for NaN
        raise ValueError(
            f"the masks lie between {low:g} and {high:g}; give Booleans, or the covered share of "
            "each pixel, from 0 to 1"
        )


def shares(given: Sequence[float], rising: bool = False) -> None:
    """Raises ValueError unless these are shares from 0 to 1; rising: and each above the last."""
    given = list(given)
    if not all(0 <= share <= 1 for share in given):
        raise ValueError(f"the shares are {given}; give numbers from 0 to 1 (0.2, not 20 %)")
    if rising and any(b <= a for a, b in zip(given, given[1:], strict=False)):
        raise ValueError(f"the shares are {given}; give each once, and the smallest first")


def boxes(given: Tensor, count: int) -> None:
    """Raises ValueError unless these are boxes (B, 4), one for each map, that hold something."""
    if given.dim() != 2 or given.shape[1] != 4:
        raise ValueError(
            f"the boxes have shape {tuple(given.shape)}; give (B, 4): x, y, width, height"
        )
    one_each(maps=count, boxes=len(given))
    if not (given[:, 2:] > 0).all():
        raise ValueError("a box has no width or height; leave its image out")


def labels(given: Tensor) -> None:
    """Raises ValueError unless these are label maps (B, h, w) of whole numbers from 0 on."""
    if given.dim() != 3 or given.dtype.is_floating_point and not torch.equal(given, given.round()):
        raise ValueError(
            f"the labels have shape {tuple(given.shape)} and {given.dtype}; give whole numbers "
            "(B, h, w)"
        )
    if given.numel() and given.min() < 0:
        raise ValueError(f"there is a label {given.min()}; give an index into the parts' names")
