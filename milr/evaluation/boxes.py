"""Do maps match boxes, and do they stay on the object? For classifiers' maps (B, H, W).

A box is (x, y, width, height) in pixels of the images. Maps are brought to the images' resolution.
"""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from milr.data.images import ImageSet
from milr.evaluation import checks
from milr.evaluation.localisation import box_masks, pointing, resize

SCENE = ("background", "branch", "leaves")
OF_MAXIMUM = 0.2  # the threshold of Zhou et al., Learning Deep Features, 2016
MATCH = 0.5


def boxes_of(images: ImageSet) -> Tensor:
    """(n, 4) the boxes that came with the images, or around what is drawn as part of a bird.

    Raises ValueError for images with neither, or one on which there is nothing of a bird.
    """
    if images.boxes is not None:
        return images.boxes.float()
    return around(objects_of(images))


def objects_of(images: ImageSet) -> Tensor:
    """(n, H, W) the share of each pixel that is of the object: drawn birds, else their boxes.

    Raises ValueError for images with neither labels nor boxes.
    """
    if images.labels is not None:
        scene = [images.part_names.index(part) for part in SCENE if part in images.part_names]
        return (~torch.isin(images.labels.long(), torch.tensor(scene))).double()
    if images.boxes is None:
        raise ValueError("these images have neither labels nor boxes; load birds or photographs")
    return box_masks(images.boxes, tuple(images.images.shape[-2:]))


def around(masks: Tensor) -> Tensor:
    """(B, 4) the smallest boxes that hold masks (B, H, W). Raises ValueError for an empty one."""
    found = []
    for index, mask in enumerate(masks):
        rows, columns = (torch.nonzero(mask.any(axis)).flatten() for axis in (1, 0))
        if not len(rows):
            raise ValueError(f"mask {index} is empty, so it has no box; leave its image out")
        corner = columns[0], rows[0]
        found.append([*corner, columns[-1] - corner[0] + 1, rows[-1] - corner[1] + 1])
    return torch.tensor(found, dtype=torch.float32)


def box_accuracy(maps: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(B,) share of the map's highest pixels, as many as the box has, that lie in the box.

    boxes: (B, 4) in pixels of images of `size`. 1 for a map that is highest all over the box and
    nowhere else; the box's share of the image for random maps, and for constant ones, as equal
    pixels count by their share in the box. NaN for a box that covers no pixel by half. Schulz et
    al., Restricting the Flow, 2020.
    """
    checks.placed(maps)
    checks.boxes(boxes, len(maps))
    values = resize(maps, size).flatten(1)
    inside = (box_masks(boxes, size) >= 0.5).flatten(1).double()
    count = inside.sum(1, keepdim=True)
    ordered = values.sort(1, descending=True).values
    last = ordered.gather(1, count.long().clamp(min=1) - 1)
    above, equal = (values > last).double(), (values == last).double()
    share = (count - above.sum(1, keepdim=True)) / equal.sum(1, keepdim=True)
    return ((above + share * equal) * inside).sum(1) / count[:, 0]


def box_overlap(maps: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(B,) intersection over union of the box with one around the map's largest high region.

    boxes: (B, 4) in pixels of images of `size`. The region is the largest connected one above a
    fifth of the map's maximum, as class activation maps were first held against boxes (Zhou et al.,
    Learning Deep Features, 2016); 0 for a map without a positive value.
    """
    checks.placed(maps)
    checks.boxes(boxes, len(maps))
    found = []
    for values, box in zip(resize(maps, size).numpy(), boxes.tolist(), strict=True):
        peak = values.max()
        regions, count = ndimage.label(values > OF_MAXIMUM * peak)
        if peak <= 0 or count == 0:
            found.append(0.0)
            continue
        areas = np.bincount(regions.flat)[1:]
        rows, columns = ndimage.find_objects(regions)[areas.argmax()]
        guess = columns.start, rows.start, columns.stop, rows.stop
        found.append(_overlap(guess, (box[0], box[1], box[0] + box[2], box[1] + box[3])))
    return torch.tensor(found, dtype=torch.float64)


def box_match(maps: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(B,) 1 where `box_overlap` is at least a half, else 0; arguments as there."""
    return (box_overlap(maps, boxes, size) >= MATCH).double()


def pointed(maps: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(B,) the pointing game on boxes (B, 4): 1 where the map's largest value lies in the box.

    As `localisation.pointing`, of Zhang et al., 2016. Raises ValueError if maps and boxes differ in
    number.
    """
    return pointing(maps, box_masks(boxes, size))


def _overlap(a, b) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return shared / (sum(areas) - shared)
