"""What a fit is fed with, batches and an objective, and what is said of them if they are wrong."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError

from milr import taps

WIDE = 100_000  # numbers of z: with 8 critics and Adam they take 1.5 GB and more
_NO_GRADIENT = (
    "the objective has no gradient by the outputs, so that nothing would be worth its price; give "
    "a loss that can be differentiated (cross-entropy, not accuracy), of outputs that come after "
    "the explained layer; of a model with activation checkpointing (torch.utils.checkpoint) switch "
    "it off"
)


def differentiable(loss: Tensor) -> Tensor:
    """The objective's value. Raises ValueError if it is not one number, or has no gradient."""
    if not isinstance(loss, Tensor) and isinstance(loss, Mapping | tuple | list):
        raise ValueError(
            f"the objective gives a {type(loss).__name__}; give the loss alone, a tensor of one "
            "number"
        )
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        raise ValueError(_NO_GRADIENT)
    if loss.numel() != 1:
        raise ValueError(
            f"the objective gives a tensor of shape {tuple(loss.shape)}; give one number, such as "
            'its mean (reduction="mean")'
        )
    return loss


def others_than(wanted: Sequence[Tensor], loss: Tensor) -> list[Tensor]:
    """What else the loss has a gradient by, of tensors that no operation made.

    Raises ValueError if it has none by the wanted ones: the mask would not see it.
    """
    found, seen, ahead = [], set(), [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        ahead.extend(before for before, _ in node.next_functions)
    those = {id(one) for one in wanted}
    if those.isdisjoint(map(id, found)):
        raise ValueError(_NO_GRADIENT)
    return [one for one in found if id(one) not in those]


@contextmanager
def computed_once() -> Iterator[None]:
    """Within it, a backward pass that would have to run the explained layer again is refused.

    What was injected is not there any more by then. Raises ValueError for a model that computes
    that layer under activation checkpointing.
    """
    try:
        yield
    except CheckpointError as error:
        raise ValueError(
            "the model runs the explained layer under activation checkpointing "
            "(torch.utils.checkpoint), which computes it anew in the backward pass, without what "
            "was injected; switch checkpointing off, or name a layer outside of it"
        ) from error


def images_of(batch, device) -> Tensor:
    """The images (B, ...) of what `MILR.fit` is fed with, on the device.

    batch: a tensor of them, a tuple or list whose first item they are, or a mapping with "images".
    Raises ValueError for anything else.
    """
    if isinstance(batch, Mapping):
        if "images" not in batch:
            raise ValueError(
                f'a batch is a mapping with {", ".join(map(repr, batch))}, but has no "images"; '
                "name them so, or give a tuple with the images first"
            )
        images = batch["images"]
    else:
        images = batch[0] if isinstance(batch, tuple | list) and batch else batch
    if not isinstance(images, Tensor):
        raise ValueError(
            f"a batch has a {type(images).__name__} where its images should be; give a tensor of "
            'images, a tuple or list whose first item is that, or a mapping with "images"'
        )
    return images.to(device)


def check_layout(explainer, images: Tensor, features) -> None:
    """Of the first batch. Warns of a wide z, and of maps that look as if the channels came last.

    Raises ValueError for tokens before images, which show only if there are as many of both.
    """
    if features.z.shape[1] > WIDE:
        warnings.warn(
            f"the representation {explainer.representation!r} has {features.z.shape[1]} numbers "
            "for each image, and every critic a row of weights for each of them, which may be more "
            "than fits into memory; name a layer behind a pooling",
            stacklevel=5,
        )
    tokens = [features.local, *(one for one in features.evidence if one.dim() == 3)]
    if any(one.shape[1] == len(images) > 1 for one in tokens):
        explainer.features(images[1:])
    given = f"layer {explainer.local!r} gives"
    # Of the second axis and the third: are there parts that the end of the images does not reach?
    second, third = (
        taps.reached_in_part(explainer.model, explainer.local, images)[:2] or (None,) * 2
    )
    if len(features.shape) == 1:
        convolution = isinstance(taps.find_layer(explainer.model, explainer.local), nn.Conv1d)
        if (third and not second) or convolution:
            warnings.warn(
                f"{given} channels first, (B, C, N), and these are read as tokens (B, N, C), whose "
                "locations would be the channels; name a layer behind a permute(0, 2, 1)",
                stacklevel=5,
            )
    elif images.dim() == 4:
        rows, columns = features.shape
        expected = rows * images.shape[3] / images.shape[2]
        unlikely = abs(columns - expected) > max(1, expected / 4)
        if (second and not third) or (unlikely and not third):
            warnings.warn(
                f"{given} maps of {rows} x {columns} locations of images of {images.shape[2]} x "
                f"{images.shape[3]}: if its channels come last, (B, H, W, C), they are taken for "
                "columns; name a layer behind a permute(0, 3, 1, 2)",
                stacklevel=5,
            )


class Stream:
    """Batches without end if they can be gone through again; else until they are used up."""

    def __init__(self, batches, needed: str):
        self.batches, self.needed, self.count = batches, needed, 0
        self.length = math.inf  # of one pass, as soon as it is known
        self._batch = iter(batches)
        self.again = self._batch is not batches

    def in_another_pass(self, before: int) -> bool:
        """Whether the last batch is of a later pass than the one after so many batches."""
        return self.again and before // self.length != (self.count - 1) // self.length

    def __next__(self):
        found = next(self._batch, self)
        if found is self and self.again and self.count:
            self.length = min(self.length, self.count)
            self._batch = iter(self.batches)
            # Nothing, of what looks as if it could be gone through again and can't.
            found = next(self._batch, self)
        if found is self:
            raise ValueError(
                f"the batches ended after {self.count}, and the fit takes {self.needed}; give a "
                "list or a data loader, which can be gone through again, or an iterator that is "
                "long enough"
            )
        self.count += 1
        return found
