"""InfoNCE here against InfoNCE of the public package benchmark-mi, on the same samples.

    python benchmarks/bench_estimators.py [size]

Both run here and now, one after the other on each task, with one thread each: error and seconds,
and their ratios. Ours is one call of `estimate` with the settings that were chosen on samples of
other seeds; theirs is its estimator with the package's own defaults, and its seconds include what
it compiles for each shape, as a caller's do. benchmark-mi asks for an older numpy than this
project; so it gets an environment of its own in build/benchmark-mi, made by uv from the dependency
group of that name in pyproject.toml. Where that can't be made, the comparison is skipped with the
reason.
"""

import os
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import numpy as np
import torch

from milr.data.known import tasks
from milr.estimators import estimate
from milr.paths import ROOT, build_root

SIZE, SEED = 2000, 0
NAMES = (
    "normal 1x1, 1 nats", "dense 5x5", "sparse 25x25", "half-cube 5x5", "normal CDF 1x1, 1 nats",
    "swiss roll 2x1", "spiral 3x3", "Student-t 2x2, 1 degrees", "uniform noise, 0.1",
    "uniform noise, 0.75", "cross",
)  # fmt: skip
OURS = {"method": "infonce", "critic": "residual", "steps": 500, "progress": False}
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
# Reads pairs of files until its input ends; says "ready", then value and seconds of each.
THEIRS = """
import sys, time, warnings
warnings.simplefilter("ignore")
import numpy as np
from bmi.estimators import InfoNCEEstimator
print("ready", flush=True)
for line in sys.stdin:
    with np.load(line.strip()) as file:
        x, z = file["x"], file["z"]
    started = time.perf_counter()
    value = float(InfoNCEEstimator(verbose=False).estimate(x, z))
    print(value, time.perf_counter() - started, flush=True)
"""


def environment() -> Path:
    """The Python that has benchmark-mi; made if it is not there yet."""
    folder = build_root() / "benchmark-mi"
    python = folder / "bin" / "python"
    marker = folder / "complete"
    if not marker.exists():
        wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
        uv = str(Path(sys.executable).with_name("uv"))
        make = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)]
        fill = [uv, "pip", "install", "--quiet", "--python", str(python), *wanted["benchmark-mi"]]
        for command in (make, fill):
            subprocess.run(command, check=True, capture_output=True, text=True)
        marker.touch()
    return python


def theirs(python: Path) -> subprocess.Popen:
    """Their estimator, waiting for samples. Raises OSError with what it said if it can't import."""
    process = subprocess.Popen(
        [python, "-c", THEIRS], text=True, env=os.environ | ONE_THREAD,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    if process.stdout.readline().strip() != "ready":
        raise OSError(process.communicate()[1].strip().splitlines()[-1])
    return process


def ask(process: subprocess.Popen, x: np.ndarray, z: np.ndarray) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.npz"
        np.savez(path, x=x, z=z)
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        value, seconds = process.stdout.readline().split()
    return float(value), float(seconds)


def ours(x: np.ndarray, z: np.ndarray) -> tuple[float, float]:
    started = time.perf_counter()
    value = estimate(x, z, seed=SEED, **OURS).value
    return value, time.perf_counter() - started


def compare(process: subprocess.Popen, size: int) -> None:
    found = []
    print(f"{'':26s} truth    ours  theirs   seconds: ours  theirs")
    for name in NAMES:
        task = tasks()[name]
        x, z = task.sample(size, SEED)
        (a, spent_a), (b, spent_b) = ours(x, z), ask(process, x, z)
        found.append((abs(a - task.truth), abs(b - task.truth), spent_a, spent_b))
        line = f"{name:26s} {task.truth:.3f}  {a:6.3f}  {b:6.3f}"
        print(f"{line} {spent_a:15.1f}  {spent_b:6.1f}", flush=True)
    off_a, off_b, spent_a, spent_b = np.mean(found, axis=0)
    closer = sum(a <= b for a, b, *_ in found)
    print(f"{size} samples, mean absolute error {off_a:.3f} against {off_b:.3f} nats")
    print(f"error, ours over theirs: {off_a / off_b:.2f} (allowed 1); closer on {closer} tasks")
    print(f"seconds, ours over theirs: {spent_a / spent_b:.2f} (allowed 1), of {len(found)} tasks")
    ratios = [a / b for *_, a, b in found]
    print(f"ratio of seconds by task: {min(ratios):.2f} to {max(ratios):.2f}")


def main() -> None:
    torch.set_num_threads(1)
    size = int(sys.argv[1]) if sys.argv[1:] else SIZE
    try:
        process = theirs(environment())
    except subprocess.CalledProcessError as error:
        return print(f"skipped: no environment for benchmark-mi: {error.stderr.strip()[-300:]}")
    except OSError as error:
        return print(f"skipped: benchmark-mi does not start: {error}")
    estimate(*tasks()[NAMES[0]].sample(400, 1), steps=5, progress=False)  # imports, not training
    compare(process, size)
    process.stdin.close()
    process.wait()


if __name__ == "__main__":
    main()
