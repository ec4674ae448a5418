"""From a scene to one integer map of regions, from which both colours and masks are made."""

import cv2
import numpy as np

from .outlines import BACK, BODY, EYE, HEAD, LEAF, SHAPES, WING, arc, ellipse
from .scene import (
    LEAF_BEFORE_BIRD,
    LEAVES,
    PATCH_SHIFT,
    PATCH_SIZE,
    Frame,
    Scene,
    between,
)
from .species import PARTS

FINE = 2  # drawn at so many times the size, then averaged down
FIRST_LEAF = 32  # region of a leaf = FIRST_LEAF + its number; all other regions = index of the part
BITS = 4  # binary digits that OpenCV keeps of a fraction of a pixel
ID = {part: number for number, part in enumerate(PARTS)}
# A patch lies on its carrier: it is seen only on it and goes with it.
CARRIERS = {
    "back": ("belly",),
    "breast": ("belly", "back"),
    "wing bar": ("wing",),
    "head marking": ("head",),
    "eye": ("head", "head marking"),
}
# Of which region is which part.
PART_OF = np.arange(256, dtype=np.uint8)
PART_OF[FIRST_LEAF : FIRST_LEAF + LEAVES] = ID["leaves"]


def regions(scene: Scene, size: int, remove=()) -> np.ndarray:
    """Map of regions (FINE size, FINE size), uint8."""
    canvas = np.zeros((FINE * size, FINE * size), np.uint8)
    before, behind = [], []
    for number, frame in enumerate(leaves(scene)):
        front = scene.rows["leaves"][8 * number + 7] < LEAF_BEFORE_BIRD
        (before if front else behind).append((FIRST_LEAF + number, frame))
    for part in PARTS[1:]:
        if part in remove:
            continue
        if part == "leaves":
            _leaves(canvas, behind)
        else:
            _fill(canvas, ID[part], OUTLINES[part](scene), CARRIERS.get(part))
    if "leaves" not in remove:
        _leaves(canvas, before)
    return canvas


def _leaves(canvas, numbered):
    for number, frame in numbered:
        _fill(canvas, number, [frame.place(LEAF)])


def _fill(canvas, number, outlines, carriers=None):
    """Give the inside of the outlines (in units of the picture) to a region."""
    scale = len(canvas) * 2**BITS
    # A pixel's centre lies half a pixel inside it.
    outlines = [np.round(o * scale - 2 ** (BITS - 1)).astype(np.int32) for o in outlines]
    if carriers is None:
        _inside(canvas, outlines, number)
        return
    stencil = np.zeros_like(canvas)
    _inside(stencil, outlines, 1)
    lies_on = np.zeros(256, np.uint8)
    lies_on[[ID[carrier] for carrier in carriers]] = 1
    canvas[(stencil & cv2.LUT(canvas, lies_on)).view(bool)] = number


def _inside(canvas, outlines, number):
    """Fill one by one: of polygons given at once OpenCV leaves out where two overlap."""
    for outline in outlines:
        cv2.fillPoly(canvas, [outline], number, shift=BITS)


def majority(parts: np.ndarray) -> np.ndarray:
    """Parts (size, size) that fill most of each pixel; of two halves the later part."""
    a, b, c, d = parts[::2, ::2], parts[::2, 1::2], parts[1::2, ::2], parts[1::2, 1::2]
    a, b, c, d = np.minimum(a, b), np.maximum(a, b), np.minimum(c, d), np.maximum(c, d)
    a, c, b, d = np.minimum(a, c), np.maximum(a, c), np.minimum(b, d), np.maximum(b, d)
    b, c = np.minimum(b, c), np.maximum(b, c)
    # Sorted a <= b <= c <= d: a label that fills half stands in the middle or at both of an end.
    return np.where(b == c, b, np.where(c == d, d, np.where(a == b, a, d)))


def branch(scene: Scene) -> tuple[Frame, float]:
    """Frame of the branch, its origin between the feet, and its half width in the picture."""
    pose = scene.rows["pose"]
    body = scene.frames["body"]
    feet = body.place(np.array([[-0.08, 0.55]]))[0]
    length = np.hypot(*body.matrix[:, 0])
    feet = feet + np.array([0.0, between(pose[10], (0.16, 0.3)) * length])
    level = Frame(np.eye(2), feet).child(0, 0, between(pose[11], (-0.3, 0.3)))
    return level, between(scene.rows["branch"][0], (0.014, 0.026))


def _branch(scene):
    frame, half = branch(scene)
    row = scene.rows["branch"]
    xs = np.linspace(-1.2, 1.2, 9)
    bend = between(row[1:10], (-0.02, 0.02))
    bend[4] = 0  # the feet stand on it
    upper = arc(np.stack([xs, bend], 1))
    taper = half * (1 - 0.25 * upper[:, :1])
    lower = upper + np.hstack([np.zeros_like(taper), 2 * taper])
    return [frame.place(np.vstack([upper, lower[::-1]]))]


def leaves(scene: Scene) -> list[Frame]:
    """Frames of the leaves, which grow along the branch: stalk at 0, tip at x = 1."""
    frame, _ = branch(scene)
    rows = scene.rows["leaves"].reshape(-1, 8)
    count = 1 + int(LEAVES * rows[0, 6])
    found = []
    for u in rows[:count]:
        side = -1.0 if u[1] < 0.5 else 1.0
        # Not at the feet, where a leaf would hide the bird.
        x = between(u[0], (0.14, 0.62)) * (1 if u[5] < 0.5 else -1)
        length = between(u[3], (0.11, 0.2))
        angle = side * between(u[2], (0.3, 1.3)) + (0 if x > 0 else np.pi - 2 * side * 0.8)
        y = 0.02 * (1 + side)
        found.append(frame.child(x, y, angle, length, length * between(u[4], (0.8, 1.2))))
    return found


def _legs(scene):
    frame, _ = branch(scene)
    body = scene.frames["body"]
    shapes = []
    for leg, x in ((-0.2, -0.024), (0.04, 0.024)):
        hip = body.place(np.array([[leg, 0.4]]))[0]
        foot = frame.place(np.array([[x, 0.004]]))[0]
        side = 0.0075 * np.array([1.0, 0.0])
        shapes.append(np.stack([hip - side, hip + side, foot + side, foot - side]))
        shapes.append(frame.place(ellipse(x, 0.008, 0.026, 0.011)))
    return shapes


def _patch(part, frame, x, y):
    """Outlines of a defining patch, in the frame, shifted and scaled a little around (x, y)."""

    def outlines(scene):
        u = scene.rows[part][4:8]
        size = between(u[0], PATCH_SIZE)
        dx, dy = PATCH_SHIFT * (2 * u[1:3] - 1)
        place = scene.frames[frame].child(x + dx, y + dy, 0.0, size, size).child(-x, -y).place
        shape = scene.values[f"{part} shape"]
        return [place(outline) for outline in SHAPES[part][shape]]

    return outlines


def _plain(frame, outline):
    return lambda scene: [scene.frames[frame].place(outline)]


OUTLINES = {
    "branch": _branch,
    "tail": lambda scene: [
        scene.frames["tail"].place(o) for o in SHAPES["tail"][scene.values["tail shape"]]
    ],
    "legs": _legs,
    "belly": _plain("body", BODY),
    "back": _plain("body", BACK),
    "breast": _patch("breast", "body", 0.7, 0.25),
    "wing": _plain("wing", WING),
    "wing bar": _patch("wing bar", "wing", -0.1, 0.0),
    "head": _plain("head", HEAD),
    "head marking": _patch("head marking", "head", 0.0, 0.0),
    "eye": _plain("head", ellipse(EYE[0], EYE[1], EYE[2], EYE[2])),
    "beak": _patch("beak", "beak", 0.0, 0.0),
}
