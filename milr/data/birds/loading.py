"""Whole sets of drawn birds, drawn by several processes and kept."""

# Torch and the rest of milr are imported where they are used: the drawing processes import this
# package by itself, need numpy and OpenCV only, and so start in a fraction of a second.
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from .picture import SMALLEST, generate
from .species import PARTS, SPLITS, Species, check, splits

WORTH_A_PROCESS = 200  # pictures; fewer are drawn sooner than another process starts
_HERE = Path(__file__).resolve().parent
_WORKER = "import sys; sys.path.insert(0, sys.argv[1]); from birds.loading import serve; serve()"


def load(split: str, per_species: int, seed: int = 0, size: int = 84, world: str = "all"):
    """Pictures of all species of a split, `per_species` of each, as a `milr.data.images.ImageSet`.

    Targets are indices of the species, `classes` their names; `labels` (n, size, size) index
    PARTS. The pictures of a species depend on seed, split, species and their number alone, so a
    larger set begins with the smaller one's. Drawn once and then kept in milr's cache.

    Raises ValueError for an unknown split or world, less than one picture, and a size under 32;
    RuntimeError as `draw` does.
    """
    import torch

    from milr.cache import cached, code_digest
    from milr.data.images import ImageSet, content_digest
    from milr.files import files_below

    check("split", split, SPLITS)
    if per_species < 1:
        raise ValueError(f"per_species={per_species}: give 1 or more")
    if size < SMALLEST:
        raise ValueError(f"size={size} is too small to draw a bird: give {SMALLEST} or more")
    species = splits(world)[split]
    jobs = [(s, picture_seed(seed, split, s, j)) for s in species for j in range(per_species)]

    def make():
        images, labels = draw(jobs, size)
        images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        return {"images": images, "labels": torch.from_numpy(labels)}

    config = dict(split=split, per_species=per_species, seed=seed, size=size, world=world)
    kept = cached("birds", config, make, sources=[_HERE / "__init__.py"])
    # As the cache's own keys: the same after an edit of a comment or a docstring.
    sources = [code_digest(path) for path in files_below(_HERE, "*.py")]
    return ImageSet(
        images=kept["images"],
        targets=torch.arange(len(species)).repeat_interleave(per_species),
        classes=tuple(s.name for s in species),
        digest=content_digest("birds", json.dumps(config), *sources),
        labels=kept["labels"],
        part_names=PARTS,
    )


def picture_seed(seed: int, split: str, species: Species, number: int) -> int:
    """Seed of a species' picture of this number; the same on every machine."""
    text = f"{seed} {split} {species.world} {species.codes} {number}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest())


def draw(jobs: list[tuple[Species, int]], size: int = 84) -> tuple[np.ndarray, np.ndarray]:
    """Draw many pictures at once: images (n, size, size, 3) and labels (n, size, size), uint8.

    Uses as many processes as there are cores to use, or threads that OMP_NUM_THREADS allows. Raises
    RuntimeError if one of them ends early.
    """
    images = np.empty((len(jobs), size, size, 3), np.uint8)
    labels = np.empty((len(jobs), size, size), np.uint8)
    count = max(1, min(_allowed(), len(jobs) // WORTH_A_PROCESS))
    if count == 1:
        _draw_here(jobs, size, images, labels)
        return images, labels
    shares = [slice(len(jobs) * i // count, len(jobs) * (i + 1) // count) for i in range(count)]
    with ThreadPoolExecutor(count) as pool:
        waiting = [
            pool.submit(_draw_elsewhere, jobs[share], size, images[share], labels[share])
            for share in shares
        ]
        for share in waiting:
            share.result()
    return images, labels


def _allowed():
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    # It may be a list, for parallel regions within others, of which the first is the outermost.
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return min(cores, int(given or cores))


def _draw_here(jobs, size, images, labels):
    for number, (species, seed) in enumerate(jobs):
        drawing = generate(species, seed, size)
        images[number], labels[number] = drawing.image, drawing.labels


def _draw_elsewhere(jobs, size, images, labels):
    """Fill the arrays by a process of its own.

    Not multiprocessing: its fresh processes import the caller's main module again, which a
    script without a guard does not survive, and a fork of one that runs torch may hang.
    """
    # -P: a birds.py in the working folder is another one.
    command = [sys.executable, "-P", "-c", _WORKER, str(_HERE.parent)]
    work = json.dumps([size, [(s.world, s.codes, seed) for s, seed in jobs]])
    # Its words go to a file: nobody reads a pipe while the pixels come, and a full one blocks it.
    with tempfile.TemporaryFile() as words:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words
        ) as process:
            # One that dies before it has read its work says why on its stderr.
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(work.encode())
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            pairs = zip(images, labels, strict=True)
            whole = all(_read_into(process.stdout, part) for pair in pairs for part in pair)
        words.seek(0)
        complaint = words.read().decode(errors="replace")
    if process.returncode or not whole:
        raise RuntimeError(f"a process that draws birds ended early:\n{complaint[-2000:]}")


def _read_into(pipe, array):
    """Whether the pipe had enough to fill the array."""
    return pipe.readinto(array.reshape(-1).data) == array.size


def serve() -> None:
    """What a drawing process does: reads the work from standard input, writes raw pixels."""
    cv2.setNumThreads(1)
    size, jobs = json.loads(sys.stdin.buffer.read())
    for world, codes, seed in jobs:
        drawing = generate(Species(world, tuple(codes)), seed, size)
        sys.stdout.buffer.write(drawing.image.tobytes() + drawing.labels.tobytes())
    sys.stdout.buffer.flush()
