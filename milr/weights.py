"""Whether a model still has the weights that something was fitted to."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

from torch import Tensor, nn, uint8


class Weights:
    """The weights that a model has now.

    digest: Sha256 of all its numbers, with their names.
    """

    def __init__(self, model: nn.Module):
        self.digest, self._mark = digest(model), _mark(model)

    def check(self, model: nn.Module) -> None:
        """Raises ValueError for a model with others. Costs next to nothing if none was touched."""
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
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor):
            total.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            if not value.is_meta:
                total.update(value.detach().cpu().contiguous().reshape(-1).view(uint8).numpy())
    return total.hexdigest()


def _mark(model: nn.Module) -> tuple:
    """Where a model's numbers lie, and how often each was written to."""
    tensors = chain(model.parameters(), model.buffers())
    return tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors)
