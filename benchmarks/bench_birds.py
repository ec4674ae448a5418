"""How fast birds are drawn, against a floor of the same run: decoding JPEGs of the same size.

    python benchmarks/bench_birds.py

Pictures a second on one core, and by `draw` with as many processes as it takes for a large set
(their start included), each as a multiple of the time that PIL needs to decode such a picture.
"""

import io
import time

import cv2
import numpy as np
from PIL import Image

from milr.data import birds
from milr.data.birds.loading import draw

SIZE, ONE_CORE, LARGE = 84, 400, 4000


def seconds_each(work, count):
    """Wall time per item of work() that does `count` of them; the better of two runs."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) / count)
    return min(times)


def main():
    cv2.setNumThreads(1)
    species = birds.splits()["train"]
    jobs = [(species[i % len(species)], i) for i in range(LARGE)]
    encoded = [_jpeg(birds.generate(s, seed, SIZE).image) for s, seed in jobs[:ONE_CORE]]
    floor = seconds_each(lambda: [np.asarray(Image.open(io.BytesIO(e))) for e in encoded], ONE_CORE)
    core = seconds_each(lambda: [birds.generate(s, i, SIZE) for s, i in jobs[:ONE_CORE]], ONE_CORE)
    whole = seconds_each(lambda: draw(jobs, SIZE), LARGE)
    for what, seconds in (("decode JPEG", floor), ("draw, one core", core), ("draw, all", whole)):
        print(f"{what:15s} {1 / seconds:8.0f} pictures/s {seconds / floor:8.1f} x floor")


def _jpeg(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=90)
    return file.getvalue()


if __name__ == "__main__":
    main()
