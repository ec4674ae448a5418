"""Does a model need what a map points at? Take it away, or take away all else, and look.

Locations are taken away by an imputation, of which there are two, since each has effects of its
own: noise in a layer's features, and blur in the pixels. A `Run` is a model with one of them:
called with images (B, C, H, W) it gives a function from what is kept of them (B, h, w) to the
outputs, which many masks of the same images share. In an episode it is the query that is taken
from; the prototypes stay those of the clean support.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur

from milr import doors, taps
from milr.evaluation import checks
from milr.explainer import draw_noise
from milr.maps import resize
from milr.peers.targets import Target

SHARES = (0.05, 0.1, 0.2)
Run = Callable[[Tensor], Callable[[Tensor], Tensor]]


def feature_noise(model: nn.Module, layer: str, moments: tuple[Tensor, Tensor], seed=0) -> Run:
    """Features of a layer (maps) that are not kept are replaced by noise with a channel's moments.

    moments: mean and standard deviation per channel, (C,) each, as `milr.peers.schulz.moments`
    gives them. An image has noise of its own, the same each time and for every mask, whatever else
    is in its batch. The run raises ValueError for moments of another number of channels, and for a
    model that gives no tensor.
    """

    def run(images: Tensor) -> Callable[[Tensor], Tensor]:
        drawn: list[Tensor] = []  # once for all masks, when it is known how large it is

        def outputs(keep: Tensor) -> Tensor:
            def instead(local: Tensor) -> Tensor:
                if len(moments[0]) != local.shape[1]:
                    raise ValueError(
                        f"moments of {len(moments[0])} channels, and layer {layer!r} has "
                        f"{local.shape[1]}; give those of this layer"
                    )
                mean, std = (moment.to(local.device)[:, None, None] for moment in moments)
                if not drawn:
                    for image in images:
                        generator = torch.Generator().manual_seed(_seed(seed, image))
                        drawn.append(draw_noise(local.shape[1:], generator, local.device))
                noise = torch.stack(drawn)
                return torch.where(_spread(keep, local), local, mean + std * noise)

            with taps.frozen(model), taps.replace(model, layer, instead), torch.no_grad():
                return _told(model(images.to(taps.device_of(model))))

        return outputs

    return run


def blurred(model: nn.Module, width: float = 1 / 12) -> Run:
    """Pixels that are not kept are taken from a blurred copy of the image.

    width: standard deviation of the Gaussian, in shares of the image's height. The run raises
    ValueError for a model that gives no tensor.
    """

    def run(images: Tensor) -> Callable[[Tensor], Tensor]:
        images = images.to(taps.device_of(model))
        sigma = width * images.shape[-2]
        # The border is mirrored, and the window may not reach beyond what there is to mirror.
        sides = [2 * min(int(2 * sigma + 0.5), side - 1) + 1 for side in images.shape[:-3:-1]]
        # Once for all masks: beside a pass of a small network it is not cheap.
        smooth = gaussian_blur(images, sides, [sigma, sigma])

        def outputs(keep: Tensor) -> Tensor:
            with taps.frozen(model), torch.no_grad():
                return _told(model(torch.where(_spread(keep, images), images, smooth)))

        return outputs

    return run


def ranked(maps: Tensor, grid: tuple[int, int], seed: int = 0) -> Tensor:
    """Locations of a grid (h, w) in the order of maps (B, H, W), (B, h * w), the largest first.

    A location has the mean of the map over its pixels. Equal ones come in an order that is drawn at
    random, or else a map that is 0 in many places would be credited with their order.
    """
    values = F.interpolate(maps[:, None].double(), tuple(grid), mode="area").flatten(1)
    drawn = torch.randperm(values.shape[1], generator=torch.Generator().manual_seed(seed))
    return drawn[values[:, drawn].argsort(dim=1, descending=True, stable=True)]


def at_locations(maps: Tensor, grid: tuple[int, int], offset: tuple[float, float]) -> Tensor:
    """Maps (B, H, W) of pixels on a layer's grid: (B, h, w), to be taken away from by it.

    A location has the mean of the map over as much of the image as a cell has, around where it
    looks; offset: as `milr.taps.offset` says it.
    """
    # From the middle of a cell to where it looks, in pixels.
    sides = zip(maps.shape[-2:], grid, offset, strict=True)
    moved = tuple(0.5 + (0.5 - place) * side / cells for side, cells, place in sides)
    # Double, or rounding would put equal values in an order.
    around = resize(maps.double(), tuple(maps.shape[-2:]), moved)
    return F.interpolate(around[:, None], tuple(grid), mode="area")[:, 0]


@dataclass(frozen=True, eq=False)
class Curves:
    """What is left of a scalar as more and more locations are kept.

    Insertion and deletion: Petsiuk et al., RISE, 2018.

    shares: (S,) of the locations that are kept, from 0 to 1
    most:   (S, B) when they are the most relevant ones. This is insertion, most relevant first,
            and read backwards it is deletion, least relevant first: the same images
    least:  (S, B) when they are the least relevant ones: deletion, most relevant first, backwards
    """

    shares: Tensor
    most: Tensor
    least: Tensor

    @property
    def insertion(self) -> Tensor:
        """(B,) area under the curve of keeping the most relevant: high is good."""
        return torch.trapezoid(self.most, self.shares, dim=0)

    @property
    def deletion(self) -> Tensor:
        """(B,) area under the curve of taking the most relevant away first: low is good."""
        return torch.trapezoid(self.least, self.shares, dim=0)


def curves(
    run: Run,
    images: Tensor,
    maps: Tensor,
    measures: Mapping[str, Target],
    grid: tuple[int, int],
    steps: int = 10,
    batch_size: int = 64,
) -> dict[str, Curves]:
    """Deletion and insertion of images (B, C, H, W) in the order of their maps (B, H, W).

    measures: name -> scalar of the outputs, such as the log-probability of the right species and
    the cosine to the clean representation; all are taken from the same runs. grid: of the locations
    (h, w) that are kept or not. steps: how many times as many locations are added.
    Raises ValueError if images, maps and targets differ in number, or maps are not finite.
    """
    _check(images, maps, measures)
    doors.whole(1, steps=steps)
    shares = torch.linspace(0, 1, steps + 1)
    order = ranked(maps, grid)

    def along(order: Tensor) -> dict[str, Tensor]:
        masks = [first(order, grid, share) for share in shares.tolist()]
        return _measured(run, images, masks, measures, batch_size)

    most, least = along(order), along(order.flip(1))
    return {name: Curves(shares, most[name], least[name]) for name in measures}


def keep(
    run: Run,
    images: Tensor,
    maps: Tensor,
    measures: Mapping[str, Target],
    grid: tuple[int, int],
    shares: Sequence[float] = SHARES,
    batch_size: int = 64,
) -> dict[str, Tensor]:
    """Sufficiency: the measures, (S, B) each, with only those shares of locations left.

    They are the map's largest. With `milr.peers.targets.episode_correct` as a measure its mean is
    the accuracy that is left. Arguments as for `curves`, shares of length S. Raises ValueError if
    images and maps differ in number.
    """
    _check(images, maps, measures)
    checks.shares(shares)
    order = ranked(maps, grid)
    masks = [first(order, grid, share) for share in shares]
    return _measured(run, images, masks, measures, batch_size)


def drop(
    run: Run,
    images: Tensor,
    maps: Tensor,
    measures: Mapping[str, Target],
    grid: tuple[int, int],
    shares: Sequence[float] = SHARES,
    batch_size: int = 64,
) -> dict[str, Tensor]:
    """Necessity: the measures, (S, B) each, without those shares of locations; see `keep`.

    Raises ValueError as `keep` does.
    """
    _check(images, maps, measures)
    checks.shares(shares)
    order = ranked(maps, grid)
    masks = [~first(order, grid, share) for share in shares]
    return _measured(run, images, masks, measures, batch_size)


def first(order: Tensor, grid: tuple[int, int], share: float) -> Tensor:
    """Boolean masks (B, h, w) of the first share of locations in an order (B, h * w).

    Raises ValueError for a share above 0 of so few locations that it rounds to none.
    """
    mask = torch.zeros(order.shape, dtype=torch.bool)
    count = round(share * order.shape[1])
    if share > 0 and not count:
        raise ValueError(
            f"a share of {share} of {order.shape[1]} locations is none; give larger shares, or a "
            "finer grid"
        )
    return mask.scatter(1, order[:, :count], True).unflatten(1, tuple(grid))


def _measured(run, images, masks, measures, batch_size) -> dict[str, Tensor]:
    """Each measure for each of S masks (B, h, w), (S, B)."""
    found: dict[str, list[Tensor]] = {name: [] for name in measures}
    for start in range(0, len(images), batch_size):
        rows = slice(start, start + batch_size)
        left = run(images[rows])
        each = [left(mask[rows]) for mask in masks]
        for name, measure in measures.items():
            found[name].append(torch.stack([measure[rows](outputs) for outputs in each]))
    return {name: torch.cat(parts, dim=1) for name, parts in found.items()}


def _seed(seed: int, image: Tensor) -> int:
    content = np.ascontiguousarray(image.detach().cpu().numpy())
    return int.from_bytes(hashlib.blake2b(content, salt=b"%d" % seed, digest_size=7).digest())


def _told(outputs: Tensor) -> Tensor:
    doors.tensor(outputs)
    return outputs.cpu()


def _spread(keep: Tensor, like: Tensor) -> Tensor:
    """Which of the values of maps (B, C, H, W) are kept, from locations (B, h, w)."""
    kept = F.interpolate(keep[:, None].float(), like.shape[-2:], mode="nearest-exact")
    return kept.bool().to(like.device)


def _check(images: Tensor, maps: Tensor, measures: Mapping[str, Target]) -> None:
    checks.placed(maps)
    if not isinstance(measures, Mapping):
        raise ValueError(
            f'measures is a {type(measures).__name__}; give names with targets, {{"logit": target}}'
        )
    for target in measures.values():
        checks.one_each(images=len(images), maps=len(maps), targets=len(target))
