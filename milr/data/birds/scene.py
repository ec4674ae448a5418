"""What varies within a species: pose, place, light and the looks of all that does not define it.

The chance of a picture is a table of uniform numbers, a row for each part and one each for pose
and light. The species has no say in it, and a part reads its own row only; so exchanging a part,
or a row, changes nothing else.
"""

from dataclasses import dataclass

import numpy as np

from .species import ATTRIBUTES, PARTS, VALUES, Species, attributes_of

# How strongly each thing varies; widen to make the species harder to tell apart.
BODY_LENGTH = (0.215, 0.265)  # half of it, in widths of the picture
MARGIN = 0.03  # kept free around the bird where it fits, in widths of the picture
BODY_ANGLE = (0.1, 1.05)  # radians, from lying flat to upright
ROLL = (-0.12, 0.12)
HEAD_ANGLE = (-0.38, 0.3)  # of the head against the horizontal, radians
PLUMPNESS = (0.88, 1.1)
HEAD_RADIUS = (0.43, 0.49)  # in half body lengths, like all that follows
TAIL_LENGTH = (0.85, 1.1)
TAIL_ANGLE = (-0.3, 0.3)
PATCH_SIZE = (0.92, 1.08)
PATCH_SHIFT = 0.05
COLOUR_JITTER = 16.0  # of a part, in steps of 256
LIGHT_GAIN = (0.78, 1.12)
LIGHT_TINT = 0.1
SHADING = (0.2, 0.5)
BLUR = (0.0, 0.55)  # standard deviation in pixels
NOISE = (1.0, 7.0)  # standard deviation in steps of 256, at 84 pixels
LEAVES = 6  # at most
LEAF_BEFORE_BIRD = 0.25  # probability of each

ROWS = (*PARTS, "pose", "light")
WIDTH = 48  # uniform numbers per row


def between(u, bounds):
    """Take uniform numbers in [0, 1) to the interval with these bounds."""
    low, high = bounds
    return low + (high - low) * u


def table(seed: int) -> np.ndarray:
    """The uniform numbers (rows, 48) behind the picture of a seed."""
    return np.random.default_rng([seed, 0]).random((len(ROWS), WIDTH))


def free_values(part: str, row: np.ndarray) -> dict[str, str]:
    """Values that a part has where it does not define the species: attribute -> value.

    row: (48,), the part's uniform numbers, of which each attribute takes one.
    """
    return {
        name: ATTRIBUTES[name][1][int(VALUES * u)]
        for name, u in zip(attributes_of(part), row, strict=False)
    }


@dataclass(frozen=True)
class Frame:
    """Takes local coordinates to the picture's (0 to 1): p = matrix @ local + origin."""

    matrix: np.ndarray
    origin: np.ndarray

    def place(self, points):
        """Local points (n, 2) in the picture."""
        return points @ self.matrix.T + self.origin

    def local(self, points):
        """Points of the picture, x and y (n,) each, in local coordinates (2, n)."""
        (a, b), (c, d) = self.matrix.tolist()
        x, y = (p - float(o) for p, o in zip(points, self.origin, strict=True))
        scale = 1 / (a * d - b * c)
        return np.stack([scale * (d * x - b * y), scale * (a * y - c * x)])

    def child(self, x, y, angle=0.0, sx=1.0, sy=1.0):
        """The frame at local (x, y), turned by angle, with units sx and sy."""
        cos, sin = np.cos(angle), np.sin(angle)
        turn = np.array([[cos * sx, -sin * sy], [sin * sx, cos * sy]])
        return Frame(self.matrix @ turn, self.matrix @ np.array([x, y]) + self.origin)


def frames(rows: dict[str, np.ndarray]) -> dict[str, Frame]:
    """Where everything is, from the rows "pose", "tail" and "wing", (48,) uniform numbers each.

    Name -> frame, of "body", "head", "beak", "tail" and "wing".
    """
    pose = rows["pose"]
    angle = between(pose[0], BODY_ANGLE)
    flip = -1.0 if pose[1] < 0.5 else 1.0
    roll = between(pose[2], ROLL)
    bird = Frame(np.diag([flip, 1.0]), np.zeros(2)).child(0, 0, roll)
    body = bird.child(0, 0, -angle, 1.0, between(pose[3], PLUMPNESS))
    # An upright bird carries its head above the shoulders, a flat one before them.
    x, y = 0.95 + 0.1 * angle, -0.34 + 0.26 * angle
    cos, sin = np.cos(angle), np.sin(angle)
    radius = between(pose[4], HEAD_RADIUS)
    head = bird.child(
        x * cos + y * sin, y * cos - x * sin, between(pose[5], HEAD_ANGLE), radius, radius
    )
    size, shift = _into_picture(body, head, pose[6:9])
    body, head = (Frame(f.matrix * size, f.origin * size + shift) for f in (body, head))
    tail = rows["tail"]
    wing = rows["wing"]
    return {
        "body": body,
        "head": head,
        "beak": head.child(0.86, 0.1),
        "tail": body.child(
            -0.9, -0.04, np.pi + between(tail[4], TAIL_ANGLE), between(tail[5], TAIL_LENGTH), -1.0
        ),
        "wing": _around(
            body, 0.45, -0.1, between(wing[0], (-0.1, 0.14)), between(wing[1], (0.92, 1.04))
        ),
    }


def _around(frame, x, y, angle, size):
    """The frame turned and scaled around its point (x, y)."""
    turned = frame.child(x, y, angle, size, size)
    return turned.child(-x, -y)


def _into_picture(body, head, u):
    """Scale and shift that put the bird, whatever its beak and tail, into the picture."""
    ends = np.vstack(
        [
            body.place(np.array([(-2.2, -0.1), (-0.2, -0.5), (-0.2, 0.62), (0.6, 0.6)])),
            head.place(np.array([(2.45, 0.2), (0.0, -1.0), (0.0, 1.0)])),
        ]
    )
    low, high = ends.min(0), ends.max(0)
    size = min(between(u[0], BODY_LENGTH), (1 - 2 * MARGIN) / (high - low).max())
    slack = np.maximum(1 - 2 * MARGIN - size * (high - low), 0)
    return size, MARGIN - size * low + slack * u[1:3]


@dataclass(frozen=True)
class Scene:
    """Everything that a picture shows: where (frames), how each part looks (rows, values)."""

    rows: dict[str, np.ndarray]
    values: dict[str, str]  # attribute -> value, of all attributes
    frames: dict[str, Frame]


def compose(species, seed: int, exchanged) -> Scene:
    """The scene of a species and seed; exchanged: part -> a Species or a seed to take it from."""
    rows = dict(zip(ROWS, table(seed), strict=True))
    own = rows["wing"]
    values = {}
    for part, other in exchanged.items():
        if not isinstance(other, Species):
            rows[part] = table(other)[ROWS.index(part)]
    if "wing" in exchanged:
        # It lies as it did: its place belongs to the bar on it, too, which stays the same.
        rows["wing"] = np.concatenate([own[:2], rows["wing"][2:]])
    for part in PARTS:
        values |= free_values(part, rows[part])
    values |= species.values
    for part, other in exchanged.items():
        if isinstance(other, Species):
            values |= {name: other.values[name] for name in attributes_of(part)}
    return Scene(rows, values, frames(rows))
