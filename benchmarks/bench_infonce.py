"""What a training step of InfoNCE costs, against the bare matrix products that it needs.

    python benchmarks/bench_infonce.py

N = 3136 locations, K = 256 samples, 128 dimensions, float32: the bound and its gradients alone, of
features that are embedded already, and the whole step of a linear and of a two-layer critic, its
own layers and optimiser included. The products are those of the scores, of the critic's layers and
of all gradients, a block of locations at a time, with nothing else done. Step and products take
turns, so that a machine whose speed drifts slows both. Memory is what the process held at most
beyond the inputs, in a process of its own.
"""

import resource
import subprocess
import sys
import time

import torch
from torch import Tensor, nn

from milr.infonce import BLOCK, SeparableCritic, critic_bound, make_critic

K, N, D, ROUNDS = 256, 3136, 128, 5
STEPS = ("bound", "linear", "two-layer")


def inputs(kind: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    pair = torch.randn(K, N, D, generator=generator), torch.randn(K, D, generator=generator)
    return tuple(part.requires_grad_(kind == "bound") for part in pair)


def step_of(kind: str):
    """A step on (x, z); for "bound" they are embedded already."""
    if kind == "bound":
        critic = SeparableCritic(D, D, D)

        def bound(u: Tensor, v: Tensor) -> None:
            u.grad = v.grad = None
            critic_bound(critic, u, v).backward()

        return bound
    torch.manual_seed(0)
    critic = make_critic(kind, D, D, width=D)
    optimizer = torch.optim.Adam(critic.parameters())

    def step(x: Tensor, z: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        (-critic_bound(critic, *critic.embed(x, z))).backward()
        optimizer.step()

    return step


def products_of(kind: str):
    """The products of the same step on (x, z)."""
    layers = []
    if kind != "bound":
        parts = make_critic(kind, D, D, width=D).local.modules()
        layers = [
            part.weight.detach().T.contiguous() for part in parts if isinstance(part, nn.Linear)
        ]

    @torch.no_grad()
    def products(x: Tensor, z: Tensor) -> None:
        kept = torch.empty_like(x) if kind == "bound" else None
        grad_v, grads = torch.zeros_like(z), [torch.zeros_like(weight) for weight in layers]
        size = max(1, BLOCK // (K * K))
        for start in range(0, N, size):
            inside = [x[:, start : start + size].reshape(-1, D)]
            for weight in layers:
                inside.append(inside[-1] @ weight)
            scores = inside[-1] @ z.T
            grad_v.addmm_(scores.T, inside[-1])
            back = scores @ z
            if kept is not None:
                kept[:, start : start + size] = back.view(K, -1, D)
            for i in reversed(range(len(layers))):
                grads[i].addmm_(inside[i].T, back)
                back = back @ layers[i].T if i else back

    return products


def seconds(function, *arguments) -> float:
    started = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - started


def peak() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(kind: str) -> None:
    given, step = inputs(kind), step_of(kind)
    before = peak()
    step(*given)
    print(f"{kind}: {peak() - before:.0f} MiB above the inputs (allowed 1536)", flush=True)


def main() -> None:
    if sys.argv[1:2] == ["memory"]:
        return memory(sys.argv[2])
    # First, while this process is small: a child's peak starts from its parent's.
    for kind in STEPS:
        subprocess.run([sys.executable, __file__, "memory", kind], check=True)
    for kind in STEPS:
        given, step, products = inputs(kind), step_of(kind), products_of(kind)
        step(*given), products(*given)
        times = [(seconds(step, *given), seconds(products, *given)) for _ in range(ROUNDS)]
        ratios = sorted(a / b for a, b in times)
        print(
            f"{kind}: step {times[0][0]:.2f} s, products {times[0][1]:.2f} s in the first of "
            f"{ROUNDS} rounds; ratio: median {ratios[ROUNDS // 2]:.2f}, "
            f"from {ratios[0]:.2f} to {ratios[-1]:.2f}"
        )


if __name__ == "__main__":
    main()
