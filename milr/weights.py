"""Whether a model still has the weights that something was fitted to."""

import hashlib
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

# Of each tensor, to see what was written through `.data`, which torch does not count.
SAMPLE = 512


class Weights:
    """The weights that a model has now.

    digest: Sha256 of all its numbers, with their names.
    """

    def __init__(self, model: nn.Module):
        self.digest, self._mark = digest(model), _mark(model)

    def check(self, model: nn.Module) -> None:
        """Raises ValueError for a model with others. Costs next to nothing if none was touched.

        Of what was written through `.data` it looks at some numbers of each tensor alone (`SAMPLE`,
        evenly spread), and does not see a change to others.
        """
        if self._mark == _mark(model):
            return
        if digest(model) != self.digest:
            raise ValueError(
                "the model's weights have changed since the modules were fitted, whose maps would "
                "mean nothing for it; fit anew, or ask `around(model)` if that is what you want"
            )
        self._mark = _mark(model)

    @contextmanager
    def moving(self, model: nn.Module) -> Iterator[None]:
        """Within it the model may be brought to another device and back, and nothing else."""
        untouched = self._mark == _mark(model)
        try:
            yield
        finally:
            if untouched:
                self._mark = _mark(model)


def digest(model: nn.Module) -> str:
    """Sha256 of all of a model's numbers, with their names."""
    total = hashlib.sha256()
    numbers = dict(model.state_dict())
    # A buffer that is not saved with the model makes its outputs all the same.
    numbers |= {n: v for n, v in model.named_buffers() if n not in numbers}
    for name, value in numbers.items():
        if isinstance(value, Tensor):
            total.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            if not value.is_meta:
                total.update(
                    value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
                )
    return total.hexdigest()


def _mark(model: nn.Module) -> tuple:
    """Where a model's numbers lie, how often each was written to, and a checksum of some."""
    tensors = [*model.parameters(), *model.buffers()]
    places = tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors)
    return places, _checksum(tensors)


@torch.no_grad()
def _checksum(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    """Of at most `SAMPLE` numbers of each tensor; the same on every device."""
    samples = defaultdict(list)
    for tensor in tensors:
        if tensor.is_meta or not tensor.numel():
            continue
        # In the order of memory: flattened, one in another order would be copied whole.
        sides = zip(tensor.shape, tensor.stride(), strict=True)
        reach = 1 + sum((side - 1) * stride for side, stride in sides)
        step = -(-reach // SAMPLE)
        some = tensor.as_strided((-(-reach // step),), (step,))
        samples[tensor.dtype, tensor.device].append(some)
    joined = (torch.cat(some).cpu() for some in samples.values())
    return tuple(zlib.crc32(some.view(torch.uint8).numpy()) for some in joined)
