"""All links of a layer in one training against one link after another, in the same run.

    python benchmarks/bench_nif.py [units]

The links are those of equation 2 from a layer of so many units (12 if not said) to a layer of as
many, over 150 rows: relevance, redundancy, and all pairs. One after another, each is the same
training of one network, with the same weights to begin with and the same batches, and so gives the
same value, which is checked. Of these, a part is timed and scaled up.
"""

import sys
import time

import numpy as np
import torch

from milr.peers.nif.mine import Settings, estimate

ROWS, STEPS, TIMED = 150, 60, 24


def links(units: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Sources and ends of all links of a layer whose units are drawn."""
    random = np.random.default_rng(0)
    source = random.standard_normal((ROWS, units))
    target = np.maximum(source @ random.standard_normal((units, units)), 0)
    below = [(i, j) for i in range(units) for j in range(i)]
    x = [source] * units + [source[:, [i]] for i, _ in below]
    z = [*target.T] + [source[:, j] for _, j in below]
    x += [source[:, [i]] for i in range(units) for _ in range(units)]
    return x, z + [target[:, k] for _ in range(units) for k in range(units)]


def main() -> None:
    torch.set_num_threads(1)
    units = int(sys.argv[1]) if sys.argv[1:] else 12
    settings = Settings(steps=STEPS)
    x, z = links(units)
    estimate(x[:2], z[:2], settings)  # imports, not training
    started = time.perf_counter()
    together = estimate(x, z, settings)
    at_once = time.perf_counter() - started
    some = np.linspace(0, len(x) - 1, TIMED).astype(int)
    started = time.perf_counter()
    alone = [estimate([x[p]], [z[p]], settings, first=p)[0] for p in some]
    one_by_one = (time.perf_counter() - started) * len(x) / TIMED
    print(f"{len(x)} links of {units} units, {STEPS} steps each, {ROWS} rows, one thread")
    print(f"together {at_once:.1f} s, one after another {one_by_one:.1f} s (from {TIMED} of them)")
    print(f"largest difference of a value: {np.abs(together[some] - alone).max():.1e} nats")
    print(f"one after another over together: {one_by_one / at_once:.1f} (wanted: 5 or more)")


if __name__ == "__main__":
    main()
