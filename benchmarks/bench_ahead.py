"""Explainers fitted several at a time against one after another, in the same run.

    python benchmarks/bench_ahead.py [explainers]

So many explainers (as many as there are cores if not said) of one network are fitted, on small
pictures, into an empty cache: by `ahead`, in processes of one thread each, and by `explain`, one
after another, with all threads. The imports of the processes count, some ten seconds. It takes a
few minutes.
"""

import os
import sys
import tempfile
import time
from dataclasses import replace

import torch

from milr.models.ahead import ahead
from milr.models.explainers import Explaining, explain
from milr.models.settings import Training

TRAINING = Training(size=64, per_species=20, steps=5, warmup=1, validations=1, device="cpu")
SHORT = Explaining(TRAINING, steps=160, critic_steps=320, critic_batches=80, masks=2)


def main() -> None:
    cores = torch.get_num_threads()
    count = int(sys.argv[1]) if sys.argv[1:] else max(2, cores)
    seconds = {}
    for seed, name in enumerate(("one after another", "ahead")):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["MILR_CACHE"] = folder
            asked = [replace(SHORT, seed=count * seed + k) for k in range(count)]
            explain(replace(SHORT, steps=1, critic_steps=1, critic_batches=1))  # the network
            started = time.perf_counter()
            if name == "ahead":
                ahead(asked, workers=cores)
            else:
                for one in asked:
                    explain(one)
            seconds[name] = time.perf_counter() - started
    for name, value in seconds.items():
        print(f"{count} explainers, {cores} threads, {name}: {value:.1f} s")
    ratio = seconds["one after another"] / seconds["ahead"]
    print(f"one after another over ahead: {ratio:.2f} (wanted: above 1)")


if __name__ == "__main__":
    main()
