"""Outlines of the parts as smooth closed curves, each in the frame of its part.

Frames: x points forward along the part (to the head, to the beak's tip, to the tail's end), y to
the belly's side. The body's half length is 1 in its frame, the head's radius is 1 in its own.
All outlines are arrays (points, 2).
"""

from functools import cache

import numpy as np


@cache
def _weights(points, closed, steps):
    """Matrix (samples, points) that takes control points to a Catmull-Rom curve through them."""
    t = np.arange(steps)[:, None] / steps
    basis = 0.5 * np.hstack(
        [
            -t + 2 * t**2 - t**3,
            2 - 5 * t**2 + 3 * t**3,
            t + 4 * t**2 - 3 * t**3,
            -(t**2) + t**3,
        ]
    )
    pieces = points if closed else points - 1
    weights = np.zeros((pieces * steps + (not closed), points))
    for piece in range(pieces):
        rows = slice(piece * steps, (piece + 1) * steps)
        for column, near in enumerate(range(piece - 1, piece + 3)):
            at = near % points if closed else min(max(near, 0), points - 1)
            weights[rows, at] += basis[:, column]
    if not closed:
        weights[-1, -1] = 1
    return weights


def ring(points, steps=6):
    """Smooth closed curve through the points."""
    points = np.asarray(points, float)
    return _weights(len(points), True, steps) @ points


def arc(points, steps=6):
    """Smooth open curve through the points."""
    points = np.asarray(points, float)
    return _weights(len(points), False, steps) @ points


def _arcs(*pieces):
    """Polygon of smooth pieces that meet in corners."""
    return np.vstack([arc(piece) for piece in pieces])


def ellipse(x, y, rx, ry, tilt=0.0, n=24):
    """Ellipse with radii rx, ry around (x, y), turned by tilt radians."""
    angle = np.arange(n) * (2 * np.pi / n)
    cos, sin = np.cos(tilt), np.sin(tilt)
    a, b = rx * np.cos(angle), ry * np.sin(angle)
    return np.stack([x + a * cos - b * sin, y + a * sin + b * cos], 1)


BODY = ring(
    [(-1.06, -0.06), (-0.72, -0.32), (-0.15, -0.49), (0.45, -0.48), (0.9, -0.42), (1.16, -0.1)]
    + [(1.12, 0.32), (0.76, 0.6), (0.15, 0.64), (-0.4, 0.5), (-0.84, 0.2)]
)
BACK = np.vstack(
    [
        arc([(-1.3, 0.06), (-0.5, -0.1), (0.3, -0.2), (0.8, -0.22), (1.4, -0.2)]),
        [(1.4, -1), (-1.3, -1)],
    ]
)
WING = ring(
    [(0.34, -0.34), (0.42, -0.1), (0.2, 0.17), (-0.35, 0.26), (-0.9, 0.14), (-1.36, 0.0)]
    + [(-0.98, -0.18), (-0.3, -0.4)]
)
HEAD = ring(
    [(1.0, 0.05), (0.78, -0.6), (0.15, -0.98), (-0.55, -0.88), (-1.0, -0.25), (-0.98, 0.4)]
    + [(-0.5, 0.92), (0.2, 0.96), (0.78, 0.62)]
)
EYE = (0.3, -0.14, 0.2)  # centre and radius, in the head's frame

BREAST = {
    "bib": ring([(1.4, -0.4), (1.5, 0.3), (1.1, 0.7), (0.56, 0.56), (0.42, 0.1), (0.6, -0.4)]),
    "spot": ellipse(0.62, 0.29, 0.36, 0.31),
    "band": ring([(0.8, -0.4), (0.8, 0.2), (0.74, 0.9), (0.2, 0.9), (0.32, 0.3), (0.38, -0.4)]),
    "flank": _arcs(
        [(1.4, 0.1), (1.0, 0.3), (0.4, 0.34), (-0.2, 0.32)], [(-0.2, 0.32), (0.3, 0.9), (1.4, 0.9)]
    ),
}
WING_BAR = {
    "band": ring([(0.22, -0.6), (0.12, 0.0), (0.1, 0.6), (-0.35, 0.6), (-0.3, 0.0), (-0.24, -0.6)]),
    "double": (
        ring([(0.34, -0.6), (0.3, 0.0), (0.24, 0.6), (0.0, 0.6), (0.05, 0.0), (0.08, -0.6)]),
        ring([(-0.16, -0.6), (-0.2, 0.0), (-0.28, 0.6), (-0.55, 0.6), (-0.46, 0), (-0.42, -0.6)]),
    ),
    "panel": ellipse(-0.45, -0.04, 0.4, 0.22, 0.06),
    "edge": ring(
        [(0.5, -0.06), (0.2, 0.0), (-0.4, 0.04), (-1.0, 0.0), (-0.9, 0.4), (-0.2, 0.5), (0.4, 0.3)]
    ),
}
HEAD_MARKING = {
    "cap": _arcs(
        [(1.1, -0.36), (0.5, -0.42), (0.0, -0.34), (-1.2, -0.1)],
        [(-1.2, -0.1), (0, -2), (1.1, -0.36)],
    ),
    "mask": ring(
        [(1.1, -0.34), (0.3, -0.54), (-0.4, -0.4), (-1.1, -0.2)]
        + [(-1.1, 0.1), (-0.4, 0.26), (0.3, 0.26), (1.1, 0.2)]
    ),
    "nape": _arcs(
        [(-0.1, -1.3), (-0.36, -0.3), (-0.36, 0.3), (0.0, 1.3)], [(0.0, 1.3), (-2, 0), (-0.1, -1.3)]
    ),
    "cheek": ellipse(-0.1, 0.46, 0.72, 0.4, -0.15),
}
BEAK = {
    "cone": _arcs(
        [(-0.2, -0.56), (0.35, -0.45), (0.98, 0.08)], [(0.98, 0.2), (0.4, 0.5), (-0.2, 0.56)]
    ),
    "dagger": _arcs(
        [(-0.2, -0.32), (0.6, -0.24), (1.7, -0.06)], [(1.7, 0.12), (0.6, 0.3), (-0.2, 0.32)]
    ),
    "hook": _arcs(
        [(-0.2, -0.54), (0.45, -0.56), (0.96, -0.12), (1.0, 0.72)],
        [(0.84, 0.72), (0.6, 0.36), (0.3, 0.48), (-0.2, 0.54)],
    ),
    "sickle": _arcs(
        [(-0.2, -0.34), (0.55, -0.26), (1.15, 0.16), (1.42, 0.98)],
        [(1.26, 1.02), (0.9, 0.46), (0.45, 0.26), (-0.2, 0.34)],
    ),
}
BEAK_LENGTH = {"cone": 1.0, "dagger": 1.7, "hook": 1.0, "sickle": 1.45}
BEAK_BEND = {"cone": 0.08, "dagger": 0.02, "hook": 0.3, "sickle": 0.62}  # of the tip, downwards
TAIL = {
    "square": _arcs(
        [(-0.25, -0.15), (0.5, -0.2), (1.12, -0.25)], [(1.16, 0.25), (0.5, 0.2), (-0.25, 0.15)]
    ),
    "forked": _arcs(
        [(-0.25, -0.14), (0.6, -0.2), (1.35, -0.48)],
        [(1.3, -0.34), (0.72, 0.0), (1.3, 0.34)],
        [(1.35, 0.48), (0.6, 0.2), (-0.25, 0.14)],
    ),
    "pointed": _arcs(
        [(-0.25, -0.15), (0.6, -0.3), (1.45, -0.04)], [(1.45, 0.04), (0.6, 0.3), (-0.25, 0.15)]
    ),
    "fanned": _arcs(
        [(-0.25, -0.13), (0.3, -0.2), (0.82, -0.52)],
        [(0.82, -0.52), (1.06, -0.26), (1.12, 0.0), (1.06, 0.26), (0.82, 0.52)],
        [(0.82, 0.52), (0.3, 0.2), (-0.25, 0.13)],
    ),
}
LEAF = _arcs(
    [(0.0, 0.0), (0.25, -0.2), (0.6, -0.24), (1.0, 0.0)],
    [(1.0, 0.0), (0.6, 0.22), (0.25, 0.2), (0, 0)],
)

# part -> shape -> the middle (x, y) of what is seen of it
MIDDLE = {
    "head marking": {
        "cap": (-0.15, -0.6),
        "mask": (-0.15, -0.1),
        "nape": (-0.65, 0.0),
        "cheek": (-0.1, 0.46),
    },
    "wing bar": {
        "band": (-0.05, -0.04),
        "double": (-0.1, -0.04),
        "panel": (-0.45, -0.02),
        "edge": (-0.3, 0.11),
    },
}
# part -> shape -> its outlines, one or more
SHAPES = {
    part: {name: o if isinstance(o, tuple) else (o,) for name, o in shapes.items()}
    for part, shapes in (
        ("beak", BEAK),
        ("head marking", HEAD_MARKING),
        ("breast", BREAST),
        ("wing bar", WING_BAR),
        ("tail", TAIL),
    )
}
