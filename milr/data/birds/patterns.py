"""Colours to choose from and the patterns of the parts that have attributes."""

import numpy as np

from .outlines import BEAK_BEND, BEAK_LENGTH, MIDDLE
from .scene import COLOUR_JITTER, Scene

COLOURS = {
    "red": (205, 45, 40),
    "yellow": (246, 204, 48),
    "blue": (46, 96, 196),
    "black": (36, 34, 40),
    "white": (244, 242, 234),
    "rust": (186, 88, 36),
}
SECOND = {  # what a pattern adds to a colour
    "red": (250, 226, 190),
    "yellow": (60, 44, 36),
    "blue": (222, 234, 246),
    "black": (238, 232, 214),
    "white": (52, 48, 56),
    "rust": (250, 228, 188),
}
# Muted, so that patches stand out: upper side, under side.
PLUMAGE = np.array(
    [
        [(122, 100, 76), (206, 188, 156)],
        [(104, 108, 112), (196, 198, 196)],
        [(108, 112, 76), (204, 204, 160)],
        [(92, 104, 124), (190, 202, 212)],
        [(146, 112, 80), (222, 200, 170)],
        [(128, 120, 104), (214, 208, 192)],
        [(110, 86, 80), (204, 182, 172)],
        [(92, 116, 104), (190, 210, 194)],
    ],
    float,
)
BACKGROUNDS = np.array(
    [(176, 200, 214), (168, 186, 140), (214, 202, 176), (188, 190, 190), (206, 184, 176)]
    + [(134, 160, 138), (150, 170, 190), (222, 216, 200), (126, 146, 112), (196, 206, 178)],
    float,
)
BARK = np.array([(104, 82, 62), (122, 110, 96), (88, 74, 70), (138, 108, 76)], float)
FOLIAGE = np.array([(86, 128, 58), (120, 146, 66), (70, 110, 78), (166, 140, 56)], float)
LEGS = np.array([(96, 78, 72), (172, 122, 86), (70, 72, 80), (196, 152, 104)], float)


def pick(colours, u):
    """The colour that a uniform number chooses."""
    return colours[int(len(colours) * u)]


def jitter(row, strength=COLOUR_JITTER):
    """Shift of a part's colour: mostly lighter or darker, a little of hue."""
    return strength * (2 * row[8] - 1) * 0.7 + strength * 0.6 * (2 * row[9:12] - 1)


def lines(t, share):
    """Whether t lies in the first share of its unit interval."""
    return t - np.floor(t) < share


def _checks(x, y, share):
    """Round spots, one to a unit square, every other row between those of the last."""
    row = np.floor(y)
    x = x + 0.5 * (row % 2)
    x, y = x - np.floor(x) - 0.5, y - row - 0.5
    return x * x + y * y < share


# part -> pattern -> where it shows the second colour, from a shape's own coordinates.
PATTERNS = {
    "breast": {
        "spotted": lambda x, y: _checks(5.2 * x, 5.2 * y, 0.11),
        "streaked": lambda x, y: lines(5.2 * y + 1.2 * x, 0.36),
        "barred": lambda x, y: lines(5.2 * x, 0.36),
    },
    "wing bar": {
        "two-toned": lambda x, y: y > 0,
        "striped": lambda x, y: lines(5.6 * x, 0.36),
        "spotted": lambda x, y: _checks(5.2 * x, 5.2 * y, 0.11),
    },
    "head marking": {
        "two-toned": lambda x, y: x < 0,
        "striped": lambda x, y: lines(2.6 * x, 0.36),
        "spotted": lambda x, y: _checks(2.3 * x, 2.3 * y, 0.11),
    },
    "beak": {
        "tipped": lambda x, y: x > 0.58,
        "two-toned": lambda x, y: y > 0,
        "ringed": lambda x, y: (x > 0.28) & (x < 0.56),
    },
    "tail": {
        "tipped": lambda x, y: x > 0.78,
        "barred": lambda x, y: lines(4.2 * x, 0.42),
        "edged": lambda x, y: np.abs(y) > 0.12 + 0.04 * x,
    },
}


def patch(part: str, scene: Scene, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Colour (n, 3) of a part that has attributes, at coordinates (n,) in its frame."""
    colour = scene.values[f"{part} colour"]
    pattern = scene.values[f"{part} pattern"]
    base = np.asarray(COLOURS[colour]) + jitter(scene.rows[part])
    if pattern == "plain":
        return np.broadcast_to(base.astype(np.float32), (x.size, 3))
    x, y = _own(part, scene.values[f"{part} shape"], x, y)
    second = np.asarray(SECOND[colour], float)
    return np.where(PATTERNS[part][pattern](x, y)[:, None], second, base).astype(np.float32)


def _own(part, shape, x, y):
    """A shape's own coordinates: of a beak from its base at x = 0 to its tip at 1, along the bend;
    of a head marking or wing bar from the middle of what is seen of it.
    """
    if part == "beak":
        x = x / BEAK_LENGTH[shape]
        return x, y - BEAK_BEND[shape] * x * np.abs(x)
    if part in MIDDLE:
        middle = MIDDLE[part][shape]
        return x - middle[0], y - middle[1]
    return x, y


def plumage(part: str, scene: Scene) -> np.ndarray:
    """Colour (3,) of a part without attributes: muted, darker above than below."""
    row = scene.rows[part]
    under = {"belly": 1.0, "back": 0.0, "wing": 0.0, "head": 0.2 + 0.6 * row[2]}[part]
    gain = (0.66 if part == "wing" else 0.88) + 0.24 * row[3]
    upper, lower = pick(PLUMAGE, row[4])
    return ((upper + under * (lower - upper)) * gain + jitter(row)).astype(np.float32)
