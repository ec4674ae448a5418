"""Labelled images with what is known about them, as every data set here returns them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

# Of ImageNet's training set, per colour channel, for values in [0, 1]: torchvision's weights
# were trained with them, and one convention for all data keeps the notebooks interchangeable.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

PER_IMAGE = ("images", "targets", "labels", "boxes", "parts")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images, their classes, and whatever masks, boxes or part locations come with them.

    images:     (n, 3, H, W) uint8
    targets:    (n,) int64, index into `classes`
    classes:    names
    digest:     identifies the images, for cache keys; see `key`
    labels:     (n, H, W) uint8, part of each pixel as an index into `part_names` (drawn birds)
    boxes:      (n, 4) float: x, y, width, height in pixels of these images (CUB)
    parts:      (n, P, 3) float: x, y, visible (0 or 1) in pixels of these images (CUB)
    part_names: names of the parts that `labels` or `parts` refer to

    Raises ValueError for parts that have another number of rows than there are images.
    """

    images: torch.Tensor
    targets: torch.Tensor
    classes: tuple[str, ...]
    digest: str
    labels: torch.Tensor | None = None
    boxes: torch.Tensor | None = None
    parts: torch.Tensor | None = None
    part_names: tuple[str, ...] = ()

    def __post_init__(self):
        for name in PER_IMAGE:
            value = getattr(self, name)
            if value is not None and len(value) != len(self.images):
                raise ValueError(
                    f"{name} has {len(value)} rows for {len(self.images)} images; "
                    "give one row per image"
                )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def key(self) -> str:
        """Digest of images, targets and class names, for what is learned from them."""
        return content_digest(self.digest, self.targets, *self.classes)

    def subset(self, indices) -> "ImageSet":
        """The images at `indices` ((m,) integers, none too, or (n,) Booleans), with the classes.

        Raises IndexError for an index outside the set.
        """
        indices = torch.as_tensor(indices)
        # An empty list is a tensor of floats.
        indices = torch.arange(len(self))[indices if indices.numel() else indices.long()]
        rows = {
            name: value[indices] for name in PER_IMAGE if (value := getattr(self, name)) is not None
        }
        return replace(self, **rows, digest=_derived(self.digest, "subset", indices.tolist()))

    def of_classes(self, classes: Sequence[int | str]) -> "ImageSet":
        """The images of some classes (indices or names), targets renumbered in the given order.

        Raises ValueError for a class that the set does not have, or one given twice.
        """
        chosen = [self._class_index(c) for c in classes]
        if len(set(chosen)) < len(chosen):
            raise ValueError(f"a class is given twice in {list(classes)}; give each once")
        renumbered = torch.full((len(self.classes),), -1, dtype=torch.int64)
        renumbered[torch.tensor(chosen, dtype=torch.int64)] = torch.arange(len(chosen))
        targets = renumbered[self.targets]
        kept = self.subset(torch.nonzero(targets >= 0).flatten())
        return replace(
            kept,
            targets=targets[targets >= 0],
            classes=tuple(self.classes[c] for c in chosen),
            digest=_derived(kept.digest, "classes", chosen),
        )

    def _class_index(self, given: int | str) -> int:
        if isinstance(given, str):
            if given in self.classes:
                return self.classes.index(given)
        elif 0 <= given < len(self.classes):
            return int(given)
        raise ValueError(
            f"no class {given!r} here; give one of {', '.join(self.classes[:5])}, ... "
            f"or an index from 0 to {len(self.classes) - 1}"
        )


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Images (..., 3, H, W) of uint8 as float32, (x / 255 - MEAN) / STD per colour channel.

    Raises ValueError for numbers of another type (0 to 1, say, or normalised already), and for
    images without three channels.
    """
    if images.dtype != torch.uint8 or images.dim() < 3 or images.shape[-3] != 3:
        raise ValueError(
            f"images are {tuple(images.shape)} of {images.dtype}; give (..., 3, H, W) of "
            "torch.uint8, 0 to 255"
        )
    mean = torch.tensor(MEAN, device=images.device)[:, None, None]
    std = torch.tensor(STD, device=images.device)[:, None, None]
    return (images.float() / 255 - mean) / std


def denormalise(images: torch.Tensor) -> torch.Tensor:
    """Back from `normalise`: float (..., 3, H, W) to uint8, rounded and clipped."""
    mean = torch.tensor(MEAN, device=images.device)[:, None, None]
    std = torch.tensor(STD, device=images.device)[:, None, None]
    return ((images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


def augment(images: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """A training view of each image (B, 3, H, W), uint8 in and out.

    Each image on its own is flipped left to right in half of the cases, shifted by up to a tenth
    of its size (the border mirrored), and changed in brightness (up to 10 % of the range) and in
    contrast (80 to 120 %).
    """

    def uniform(low: float, high: float) -> torch.Tensor:
        drawn = torch.rand(len(images), generator=generator, device=device)
        return (low + (high - low) * drawn).to(images.device)

    device = generator.device if generator is not None else images.device
    height, width = images.shape[-2:]
    rows = _window(height, uniform(-0.1, 0.1))
    columns = _window(width, uniform(-0.1, 0.1))
    flipped = uniform(0, 1) < 0.5
    columns = torch.where(flipped[:, None], columns.flip(1), columns)
    # One gather does shift, mirror and flip for the whole batch.
    image = torch.arange(len(images), device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[:, None, None]
    moved = images[image, channel, rows[:, None, :, None], columns[:, None, None, :]].float()
    mean = moved.mean(dim=(1, 2, 3), keepdim=True)
    contrast = uniform(0.8, 1.2)[:, None, None, None]
    brightness = uniform(-25.5, 25.5)[:, None, None, None]
    return ((moved - mean) * contrast + mean + brightness).round().clamp(0, 255).to(torch.uint8)


def content_digest(*parts: torch.Tensor | str) -> str:
    """Sha256 of tensors (shape, type, bytes) and words, for `ImageSet.digest`."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, torch.Tensor):
            total.update(f"{tuple(part.shape)} {part.dtype}".encode())
            total.update(part.contiguous().cpu().numpy().data)
        else:
            total.update(part.encode())
        total.update(b"\0")
    return total.hexdigest()


def _window(size: int, shift: torch.Tensor) -> torch.Tensor:
    """(B, size) source positions of a window shifted by `shift` (B,), mirrored at the border."""
    start = (shift * size).round().long()
    position = (start[:, None] + torch.arange(size, device=shift.device)).abs()
    return (size - 1) - ((size - 1) - position).abs()


def _derived(digest: str, how: str, arguments: list) -> str:
    return content_digest(digest, how, repr(arguments))
