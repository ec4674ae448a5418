"""What a training step of InfoNCE costs, against the bare matrix products that it needs.

    python benchmarks/bench_infonce.py

N = 3136 locations, K = 256 samples, 128 dimensions, float32. The products are the scores and the
gradients of both sides, a block at a time, with nothing else done. Step and products take turns,
so that a machine whose speed drifts slows both. Memory is what the process held at most beyond the
inputs, in a process of its own.
"""

import resource
import subprocess
import sys
import time

import torch

from milr.infonce import BLOCK, SeparableCritic, critic_bound

K, N, D, ROUNDS = 256, 3136, 128, 5


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(K, N, D, generator=generator).requires_grad_()
    return u, torch.randn(K, D, generator=generator).requires_grad_()


def step(u: torch.Tensor, v: torch.Tensor) -> None:
    u.grad = v.grad = None
    critic_bound(SeparableCritic(D, D, D), u, v).backward()


@torch.no_grad()
def products(u: torch.Tensor, v: torch.Tensor) -> None:
    grad_u, grad_v = torch.empty_like(u), torch.zeros_like(v)
    size = max(1, BLOCK // (K * K))
    for start in range(0, N, size):
        block = u[:, start : start + size].reshape(-1, D)
        scores = block @ v.T
        grad_u[:, start : start + size] = (scores @ v).view(K, -1, D)
        grad_v.addmm_(scores.T, block)


def seconds(function, *arguments) -> float:
    started = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - started


def peak() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory() -> None:
    u, v = inputs()
    before = peak()
    step(u, v)
    print(f"memory above the inputs: {peak() - before:.0f} MiB (allowed 1536)")


def main() -> None:
    if sys.argv[1:] == ["memory"]:
        return memory()
    # First, while this process is small: a child's peak starts from its parent's.
    subprocess.run([sys.executable, __file__, "memory"], check=True)
    u, v = inputs()
    step(u, v), products(u, v)
    times = [(seconds(step, u, v), seconds(products, u, v)) for _ in range(ROUNDS)]
    ratios = sorted(a / b for a, b in times)
    print(f"step {times[0][0]:.2f} s, products {times[0][1]:.2f} s in the first of {ROUNDS} rounds")
    print(f"ratio: median {ratios[ROUNDS // 2]:.2f}, from {ratios[0]:.2f} to {ratios[-1]:.2f}")


if __name__ == "__main__":
    main()
