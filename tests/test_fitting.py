"""Two processes fit the explainer that one fits. This file is also the script that they run."""

import os
import subprocess
import sys

import torch
from torch import nn

from milr import MILR, distributed
from milr.fitting import fit

SETTINGS = {
    "steps": 3,
    "critic_steps": 3,
    "critic_batches": 3,
    "moment_batches": 2,
    "bank": 16,
    "progress": False,
}


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.local = nn.Conv2d(3, 6, 3)
        self.later = nn.Conv2d(6, 8, 3)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        return self.pool(self.later(self.local(x).relu()).relu()).flatten(1)


def apart(head: nn.Module):
    """Of all processes' outputs, through a head of its own: each image stays apart from others."""

    def objective(outputs, batch):
        return -torch.pdist(distributed.gather(head(outputs))).mean()

    return objective


def fitted(processes: int, **settings) -> dict:
    fabric = distributed.make_fabric("cpu", processes)
    torch.manual_seed(0)
    explainer = MILR(Small().eval(), "local", "pool", ("local", "later"), beta=0.5, masks=2)
    head = nn.Linear(8, 8)
    generator = torch.Generator().manual_seed(1)
    batches = [torch.randn(8, 3, 9, 9, generator=generator) for _ in range(6)]
    share = [distributed.share_of(batch) for batch in batches]
    inserted, history = fit(explainer, share, apart(head), fabric=fabric, **SETTINGS | settings)
    learned = {"inserted": inserted.state_dict(), "history": history}
    return {"processes": fabric.world_size, "touched": head.weight.grad is not None} | learned


def test_two_processes_fit_what_one_fits(tmp_path):
    out = tmp_path / "found.pt"
    paths = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [sys.executable, __file__, str(out)],
        env=os.environ | paths, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    found, expected = torch.load(out, weights_only=True), fitted(processes=1)
    assert found["processes"] == 2
    assert not found["touched"] and not expected["touched"]
    # The objective is computed on all samples by each process; what each notes of the rest is its
    # own share's, so only what is global is compared.
    for name in ("loss", "total", "decision", "held out total", "held out decision"):
        torch.testing.assert_close(
            torch.tensor(found["history"][name]), torch.tensor(expected["history"][name]),
            rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}",
        )  # fmt: skip
    # Adam divides by the gradient's size and so magnifies rounding where the gradient is small; but
    # all in all, what learns goes the same way.
    start, learns = (
        fitted(processes=1, learning_rate=1e-12)["inserted"],
        ("mask", "total", "decision"),
    )
    ways = {part: [[], []] for part in learns}
    for name, value in expected["inserted"].items():
        part = name.split(".")[0]
        if part in learns:
            for way, end in zip(ways[part], (value, found["inserted"][name]), strict=True):
                way.append((end - start[name]).flatten().float())
        else:
            torch.testing.assert_close(found["inserted"][name], value, rtol=1e-3, atol=1e-3)
    for part, (way, other) in ways.items():
        way, other = torch.cat(way), torch.cat(other)
        assert way.norm() > 0 and (way - other).norm() < 0.2 * way.norm(), part


if __name__ == "__main__":
    found = fitted(processes=2)
    if distributed.is_first():
        torch.save(found, sys.argv[1])
