"""A scene's regions in colour: patterns, feathers and light, then noise as a camera adds it."""

import cv2
import numpy as np

from .drawing import FINE, FIRST_LEAF, ID, branch, leaves
from .outlines import EYE
from .patterns import (
    BACKGROUNDS,
    BARK,
    FOLIAGE,
    LEGS,
    jitter,
    lines,
    patch,
    pick,
    plumage,
)
from .scene import BLUR, LIGHT_GAIN, LIGHT_TINT, NOISE, SHADING, Scene, between

# An endless sheet of smooth noise, sampled in a part's own coordinates.
_SHEET = 256
_smooth = np.random.default_rng(5).standard_normal((_SHEET, _SHEET)).astype(np.float32)
_smooth = cv2.GaussianBlur(np.tile(_smooth, (3, 3)), (0, 0), 1.6)[
    _SHEET : 2 * _SHEET, _SHEET : 2 * _SHEET
]
_smooth = np.ascontiguousarray(_smooth / _smooth.std())


def _texture(x, y, along, across):
    """Smooth noise of deviation 1 with so many grains per unit along x and across."""
    i = (x * along).astype(np.int32) & (_SHEET - 1)
    j = (y * across).astype(np.int32) & (_SHEET - 1)
    return _smooth[i, j]


def background(row: np.ndarray, width: int) -> np.ndarray:
    """Soft gradient with discs out of focus, (width, width, 3) float32."""
    coarse = 40
    y, x = np.mgrid[0:coarse, 0:coarse].astype(np.float32) / coarse
    angle = 2 * np.pi * row[0]
    t = np.clip(0.5 + (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle), 0, 1)[..., None]
    one, two = pick(BACKGROUNDS, row[1]), pick(BACKGROUNDS, row[2])
    sheet = ((1 - t) * (one + 24 * (row[3] - 0.5)) + t * two).astype(np.float32)
    for u in row[8:].reshape(-1, 5):
        centre = (int(coarse * 16 * u[0]), int(coarse * 16 * u[1]))
        colour = pick(BACKGROUNDS, u[3]) + 90 * (u[4] - 0.5)
        disc = cv2.circle(
            np.zeros((coarse, coarse), np.float32),
            centre,
            int(16 * between(u[2], (2, 9))),
            0.6,
            -1,
            cv2.LINE_AA,
            4,
        )[..., None]
        sheet += disc * (colour.astype(np.float32) - sheet)
    sheet = cv2.GaussianBlur(sheet, (0, 0), between(row[4], (0.8, 2.4)))
    return cv2.resize(sheet, (width, width), interpolation=cv2.INTER_CUBIC)


def _round(x, y, light, strength):
    """Light on an ellipsoid that fills -1 to 1 of x and y; 1 where it faces the viewer."""
    flat = np.minimum(x * x + y * y, 0.96)
    facing = x * light[0] + y * light[1] + np.sqrt(1 - flat) * light[2]
    return 1 + strength * (facing - light[2])


class _Brush:
    """Colours each region's own pixels, given in the coordinates of a part's frame."""

    def __init__(self, scene, canvas):
        self.scene = scene
        self.canvas = canvas.reshape(-1)
        self.width = len(canvas)
        pose = scene.rows["light"]
        angle = between(pose[0], (0.9, 2.24))  # from above, left or right
        self.light = np.array([np.cos(angle), -np.sin(angle)]) * 0.75
        self.strength = between(pose[1], SHADING)

    def pixels(self, number):
        """Indices of a region's pixels."""
        return np.flatnonzero(self.canvas == number)

    def local(self, pixels, frame):
        """Local x and y of the pixels' centres, float32."""
        y, x = np.divmod(pixels.astype(np.int32), self.width)
        scale = np.float32(1 / self.width)
        return frame.local(((x + np.float32(0.5)) * scale, (y + np.float32(0.5)) * scale))

    def shade(self, x, y, frame):
        """Brightness (n, 1) of a rounded part that fills -1 to 1 of x and y."""
        turn = frame.matrix / np.sqrt(np.abs(np.linalg.det(frame.matrix)))
        light = turn.T @ self.light
        return _round(x, y, (*light, 0.66), self.strength)[:, None]


def _paint_leaf(brush, number, frame):
    pixels = brush.pixels(number)
    x, y = brush.local(pixels, frame)
    u = brush.scene.rows["leaves"].reshape(-1, 8)[number - FIRST_LEAF]
    colour = pick(FOLIAGE, u[6]) * (0.75 + 0.5 * u[4])
    gain = 1 + 0.12 * np.sign(y) - 0.18 * lines(6 * (x - 1.4 * np.abs(y)), 0.2)
    gain = np.where(np.abs(y) < 0.025, 1.3, gain)
    return pixels, colour * gain[:, None]


def _paint_branch(brush):
    pixels = brush.pixels(ID["branch"])
    frame, half = branch(brush.scene)
    x, y = brush.local(pixels, frame)
    row = brush.scene.rows["branch"]
    colour = pick(BARK, row[12]) + jitter(row)
    gain = 1.22 - 0.28 * y / half + 0.09 * _texture(x, y, 40, 260)
    return pixels, colour * gain[:, None]


def _paint_legs(brush):
    pixels = brush.pixels(ID["legs"])
    row = brush.scene.rows["legs"]
    colour = pick(LEGS, row[0]) + jitter(row)
    return pixels, np.broadcast_to(colour, (pixels.size, 3))


def _paint_trunk(brush, part):
    """Belly, back and breast: one rounded body, finely feathered."""
    pixels = brush.pixels(ID[part])
    frame = brush.scene.frames["body"]
    x, y = brush.local(pixels, frame)
    shade = brush.shade(x / 1.25, y / 0.68, frame)
    feathers = 1 + 0.035 * _texture(x, y, 22, 50)[:, None]
    colour = patch(part, brush.scene, x, y) if part == "breast" else plumage(part, brush.scene)
    return pixels, colour * shade * feathers


def _paint_wing(brush, part):
    pixels = brush.pixels(ID[part])
    frame = brush.scene.frames["wing"]
    x, y = brush.local(pixels, frame)
    shade = brush.shade(x / 1.6, y / 0.5, frame)
    if part == "wing bar":
        return pixels, patch(part, brush.scene, x, y) * (0.4 + 0.6 * shade)
    # Long feathers run to the tip, short rounded ones cover the shoulder.
    long = lines((y - 0.02 * x) / (0.1 + 0.035 * np.maximum(x + 0.9, 0)), 0.22)
    short = lines(4.5 * x + 2.2 * np.cos(14 * y), 0.2)
    feathers = 1 - 0.24 * np.where(x < -0.15, long, short)[:, None]
    return pixels, plumage(part, brush.scene) * shade * feathers


def _paint_head(brush, part):
    pixels = brush.pixels(ID[part])
    frame = brush.scene.frames["head"]
    x, y = brush.local(pixels, frame)
    shade = brush.shade(x / 1.1, y / 1.1, frame)
    feathers = 1 + 0.03 * _texture(x, y, 12, 20)[:, None]
    colour = plumage(part, brush.scene) if part == "head" else patch(part, brush.scene, x, y)
    return pixels, colour * shade * feathers


def _paint_eye(brush):
    pixels = brush.pixels(ID["eye"])
    x, y = brush.local(pixels, brush.scene.frames["head"])
    x, y = (x - EYE[0]) / EYE[2], (y - EYE[1]) / EYE[2]
    iris = np.array((70, 44, 28)) + 60 * brush.scene.rows["eye"][0]
    colour = np.where((x * x + y * y < 0.55)[:, None], (16, 14, 18), iris)
    glint = ((x - 0.3) ** 2 + (y + 0.35) ** 2 < 0.14)[:, None]
    return pixels, np.where(glint, (255, 255, 255), colour)


def _paint_beak(brush):
    pixels = brush.pixels(ID["beak"])
    frame = brush.scene.frames["beak"]
    x, y = brush.local(pixels, frame)
    shade = brush.shade(0 * x, y / 0.75, frame)
    return pixels, patch("beak", brush.scene, x, y) * shade


def _paint_tail(brush):
    pixels = brush.pixels(ID["tail"])
    x, y = brush.local(pixels, brush.scene.frames["tail"])
    gain = (0.86 + 0.14 * np.minimum(x, 1)) * (1 - 0.16 * lines(9 * y / (0.6 + 0.7 * x), 0.2))
    return pixels, patch("tail", brush.scene, x, y) * gain[:, None]


def colour(scene: Scene, canvas: np.ndarray) -> np.ndarray:
    """The regions in colour, (width, width, 3) float32 in 0 to 255."""
    brush = _Brush(scene, canvas)
    sheet = background(scene.rows["background"], brush.width).reshape(-1, 3)
    painted = [_paint_leaf(brush, FIRST_LEAF + i, f) for i, f in enumerate(leaves(scene))]
    painted += [_paint_branch(brush), _paint_legs(brush), _paint_eye(brush)]
    painted += [_paint_trunk(brush, part) for part in ("belly", "back", "breast")]
    painted += [_paint_wing(brush, part) for part in ("wing", "wing bar")]
    painted += [_paint_head(brush, part) for part in ("head", "head marking")]
    painted += [_paint_beak(brush), _paint_tail(brush)]
    for pixels, colours in painted:
        sheet[pixels] = colours
    return sheet.reshape(brush.width, brush.width, 3)


def outline(sheet: np.ndarray, canvas: np.ndarray) -> None:
    """Darken in place the borders of the regions, as with a pencil.

    sheet: (width, width, 3) float32; canvas: (width, width) uint8, the regions. It reaches half its
    thickness away, in pixels of the sheet: one of the picture under 420.
    """
    groups = np.arange(256, dtype=np.uint8)
    groups[ID["back"]] = ID["belly"]
    thickness = max(1, len(canvas) // (84 * FINE)) + 1
    border = cv2.morphologyEx(
        cv2.LUT(canvas, groups), cv2.MORPH_GRADIENT, np.ones((thickness, thickness), np.uint8)
    )
    sheet[border > 0] *= 0.66


def develop(sheet: np.ndarray, scene: Scene, seed: int) -> np.ndarray:
    """The picture (size, size, 3) uint8 of the sheet: averaged down, lit, blurred, noisy."""
    size = len(sheet) // FINE
    u = scene.rows["light"]
    image = cv2.resize(sheet, (size, size), interpolation=cv2.INTER_AREA)
    image *= (between(u[2], LIGHT_GAIN) * (1 + LIGHT_TINT * (2 * u[3:6] - 1))).astype(np.float32)
    # Three pixels wide: a colour reaches one pixel further, no more.
    image = cv2.GaussianBlur(image, (3, 3), max(between(u[6], BLUR), 0.05))
    grain = np.random.default_rng([seed, 1]).standard_normal(image.shape, np.float32)
    # A larger picture has finer grain, not more of it.
    image += np.float32(between(u[7], NOISE) * min(1, 84 / size)) * grain
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)
