"""What an explanation costs: seconds and memory, all methods in one run.

Times depend on the machine and on what else it does; only those of one run can be compared.
"""

import statistics
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class Cost:
    """Of one method.

    seconds: per image, after fitting; median over repetitions
    spread:  the least and the most of them
    memory:  bytes, the most that were allocated at once beyond what lay there before
    fit:     seconds that fitting took; 0 for methods that fit nothing
    """

    seconds: float
    spread: tuple[float, float]
    memory: int
    fit: float = 0.0

    def amortised(self, images: int) -> float:
        """Seconds per image if fitting is shared by so many of them."""
        return self.seconds + self.fit / images


def measure(
    methods: Mapping[str, Callable[[Tensor], object]],
    images: Tensor,
    fits: Mapping[str, float] | None = None,
    repetitions: int = 3,
    device: torch.device | str = "cpu",
) -> dict[str, Cost]:
    """Cost of each method on the same images (B, ...).

    methods: name -> function of the images. fits: name -> seconds of fitting, for those that have
    any. Each is called once before, then all in turn, again and again, so that what else the
    machine does falls on all of them; memory is taken in a call of its own, which is not timed.
    device: where they work. On the CPU, memory is what torch allocates, not the libraries'.
    Raises ValueError for seconds of a method that is not there.
    """
    fits = dict(fits or {})
    if unknown := fits.keys() - methods.keys():
        raise ValueError(
            f"seconds of fitting for {', '.join(sorted(unknown))}, but the methods are "
            f"{', '.join(methods)}"
        )
    device = torch.device(device)
    memory = {name: _memory(method, images, device) for name, method in methods.items()}
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(repetitions):
        for name, method in methods.items():
            seconds[name].append(_seconds(method, images, device) / len(images))
    return {
        name: Cost(statistics.median(s), (min(s), max(s)), memory[name], fits.get(name, 0.0))
        for name, s in seconds.items()
    }


def _seconds(method: Callable, images: Tensor, device: torch.device) -> float:
    start = time.perf_counter()
    method(images)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _memory(method: Callable, images: Tensor, device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        method(images)
        return torch.cuda.max_memory_allocated(device) - before
    with _Tensors() as tensors:
        method(images)
    return tensors.most


class _Tensors(TorchDispatchMode):
    """Bytes of the tensors that come and go within it, and the most at any time.

    The CPU's allocator keeps no count, and a process does not give back what it once took.
    """

    def __init__(self):
        super().__init__()
        self.now = self.most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = _storages((args, kwargs))
        result = function(*args, **(kwargs or {}))
        for key, storage in _storages(result).items():
            # A view, or what was changed in place, is no new memory.
            if key not in given:
                self._add(storage.nbytes())
                weakref.finalize(storage, self._add, -storage.nbytes())
        return result

    def _add(self, count: int) -> None:
        self.now += count
        self.most = max(self.most, self.now)


def _storages(values) -> dict[int, torch.UntypedStorage]:
    found = [x.untyped_storage() for x in tree_leaves(values) if isinstance(x, Tensor)]
    return {id(storage): storage for storage in found}
