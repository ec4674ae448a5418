"""The picture of a bird with the masks of its parts, and the same picture with a part exchanged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral

import cv2
import numpy as np

from .drawing import FINE, PART_OF, majority, regions
from .paint import colour, develop, outline
from .scene import compose
from .species import PARTS, Species, check

SMALLEST = 32


@dataclass(frozen=True)
class Drawing:
    """A picture (H, W, 3) uint8 and what each of its pixels shows, labels (H, W) uint8.

    `fine` (2 H, 2 W) uint8 are the labels as drawn, before each pixel went to its largest part.
    """

    image: np.ndarray
    labels: np.ndarray
    fine: np.ndarray
    species: Species
    seed: int

    def mask(self, *parts: str) -> np.ndarray:
        """Where any of the parts is seen, (H, W) bool. Raises ValueError for an unknown part."""
        return _is_any(self.labels, parts)

    def extent(self, *parts: str) -> np.ndarray:
        """Where any of the parts has the least share of the pixel, (H, W) bool.

        Raises ValueError for an unknown part.
        """
        touched = _is_any(self.fine, parts)
        height, width = self.labels.shape
        return touched.reshape(height, FINE, width, FINE).any((1, 3))


def _is_any(labels, parts):
    for part in parts:
        check("part", part, PARTS)
    return np.isin(labels, [PARTS.index(part) for part in parts])


def generate(
    species: Species,
    seed: int,
    size: int = 84,
    *,
    replace: Mapping[str, "Species | int"] | None = None,
    remove: Sequence[str] = (),
) -> Drawing:
    """Draw a bird of the species; the same arguments always give the same picture.

    The seed alone decides all that the species does not: pose, place, light, background, and the
    looks of the parts that do not define it. So two species at one seed differ in the defining
    parts only.

    replace: part -> a species, to have that part as this one has it, or a seed, to have what
        varies freely of that part as in the picture of this seed. (A wing stays
        where it is, as the bar lies on it.)
    remove: parts to leave out; what lies behind is seen. Patches go with what they lie on: the
        wing bar with the wing, breast and back with the belly, marking and eye with the head.
    Everything else is equal pixel by pixel: nothing changes more than two pixels away from the
    `extent` of what was or is changed, one for the outline and one for the blur. In pictures of 420
    pixels and more the outline is thicker: there it is three pixels, and four from 756.

    Raises ValueError for a size under 32, a seed that is no whole number from 0 up, an unknown
    part, and a replacing species that is not defined by the part.
    """
    replace = replace or {}
    _check(seed, size, replace, remove)
    scene = compose(species, seed, replace)
    canvas = regions(scene, size, remove)
    sheet = colour(scene, canvas)
    outline(sheet, canvas)
    fine = cv2.LUT(canvas, PART_OF)
    return Drawing(develop(sheet, scene, seed), majority(fine), fine, species, seed)


def _check(seed, size, replace, remove):
    """Refuse what `generate` can't draw."""
    if size < SMALLEST:
        raise ValueError(f"size={size} is too small to draw a bird: give {SMALLEST} or more")
    _check_seed("seed", seed)
    if isinstance(remove, str):
        raise ValueError(f"remove={remove!r} is one name: give a sequence, such as ({remove!r},)")
    for part in remove:
        check("part in remove", part, PARTS[1:])
    for part, other in replace.items():
        check("part in replace", part, PARTS)
        if not isinstance(other, Species):
            _check_seed(f"replace[{part!r}]", other)
        elif part not in other.defining:
            raise ValueError(
                f"{other.name} cannot lend its {part}: species of its world are defined by "
                f"{', '.join(other.defining)} alone; give a seed or a species of another world"
            )


def _check_seed(what, given):
    if not isinstance(given, Integral) or given < 0:
        raise ValueError(f"{what}={given!r} is no seed: give a whole number from 0 up")
