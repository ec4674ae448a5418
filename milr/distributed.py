"""One training over several processes that learns what a single process would.

Each process works on its share of a global batch. `gather` puts the features of all processes
together for a loss that compares them with one another, `synchronise` lets batch norm see the
whole batch, and Fabric's data parallelism averages the gradients of the parameters. Together
they give the gradient of the global batch. With one process every function here does nothing.
"""

import os

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.accelerators import CUDAAccelerator, MPSAccelerator
from torch import Tensor, nn

PRECISIONS = ("32-true", "bf16-mixed")


def devices() -> tuple[str, ...]:
    """Kinds of device that work on this machine: "cpu", and perhaps "cuda" and "mps"."""
    offered = {"cuda": CUDAAccelerator.is_available(), "mps": MPSAccelerator.is_available()}
    return ("cpu", *(kind for kind, there in offered.items() if there))


def make_fabric(device: str = "auto", processes: int = 1, precision: str = "32-true") -> Fabric:
    """A launched Fabric, ready to set up modules and optimisers.

    device: "auto" (the best there is), "cpu", "cuda" or "mps"; of several, and for one process,
    "cuda:1" as well; processes: how many on this machine; precision: "32-true" or "bf16-mixed"
    (bfloat16 autocast). A start by `fabric run` sets the number of processes and machines itself,
    and `processes` is then ignored.

    More than one process start the running script again, so call this before other work is
    done, and not in a notebook.

    Raises ValueError for a device that this machine lacks or a setting not named above.
    """
    kind, _, index = device.partition(":")
    if kind not in ("auto", *devices()):
        raise ValueError(f"device is {device!r}; this machine offers auto, {', '.join(devices())}")
    # PyTorch itself calls the only one of a kind "mps:0", or "cpu:0".
    if index and not (index.isdecimal() if kind == "cuda" else kind != "auto" and index == "0"):
        raise ValueError(f"device is {device!r}; a number goes with cuda alone, as in cuda:1")
    if index and kind == "cuda" and int(index) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise ValueError(f"device is {device!r}; this machine has cuda:0 to cuda:{last}")
    if index and kind == "cuda" and processes > 1:
        raise ValueError(
            f"device is {device!r} for {processes} processes, each of which takes one of its own; "
            f"give {kind!r}, or one process"
        )
    if processes < 1:
        raise ValueError(f"processes is {processes}; give 1 or more")
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; give one of {', '.join(PRECISIONS)}")
    if os.environ.get("LT_CLI_USED") == "1":
        return Fabric(accelerator=kind, precision=precision)
    if processes == 1:
        # Launching one process would do nothing but change the number of threads.
        one = [int(index)] if index and kind == "cuda" else 1
        return Fabric(accelerator=kind, devices=one, precision=precision)
    fabric = Fabric(accelerator=kind, devices=processes, strategy="ddp", precision=precision)
    fabric.launch()
    return fabric


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process among those that train together, from 0."""
    return 0 if world_size() == 1 else dist.get_rank()


def is_first() -> bool:
    """Whether this is the process that writes and prints for all of them."""
    return rank() == 0


def share_of(batch: Tensor) -> Tensor:
    """This process's part of a global batch (B, ...): B / processes rows in their order, so that
    `gather(share_of(batch))` is the batch again.

    Raises ValueError if the rows cannot be shared out equally.
    """
    if len(batch) % world_size():
        raise ValueError(
            f"a batch of {len(batch)} cannot be shared out equally over {world_size()} processes; "
            f"give a multiple of {world_size()}"
        )
    return batch if world_size() == 1 else batch.chunk(world_size())[rank()]


def gather(x: Tensor) -> Tensor:
    """The rows of all processes, (B, ...) -> (processes * B, ...), in the order of processes.

    x has the same shape in every process. Gradients come back from every process's loss, so
    after data parallelism has averaged the parameters' gradients they are those of the mean
    loss; if each process computes the same global loss, they are those of that loss.
    """
    return x if world_size() == 1 else _Gather.apply(x)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        rows = [
            torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world_size())
        ]
        dist.all_gather(rows, x.contiguous())
        return torch.cat(rows)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        # Every process's loss depends on these rows, so their gradients add up.
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return share_of(total)


def synchronise(model: nn.Module) -> nn.Module:
    """Let every `BatchNorm2d` of the model see the batches of all processes; in place.

    torch's own SyncBatchNorm refuses the CPU. Parameters, buffers and their names stay. Call it
    before `fabric.setup`.
    """
    for name, child in model.named_children() if world_size() > 1 else ():
        if type(child) is nn.BatchNorm2d:
            setattr(model, name, _BatchNormOfAll(child))
        else:
            synchronise(child)
    return model


class _BatchNormOfAll(nn.BatchNorm2d):
    def __init__(self, norm: nn.BatchNorm2d):
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            setattr(self, name, buffer)
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            mean, variance = _moments_of_all(x.float())
        self._remember(mean.detach(), variance.detach(), count=world_size() * x[:, 0].numel())
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return (x * scale[:, None, None] + shift[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)


def _moments_of_all(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (C,) of each channel of x (B, C, H, W) over all processes."""
    variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    means, variances = gather(torch.stack([mean, variance])[None]).unbind(1)
    # The variance of the whole: within the processes, and of their means; no cancellation.
    return means.mean(0), variances.mean(0) + means.var(0, correction=0)
