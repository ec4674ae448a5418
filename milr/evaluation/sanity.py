"""Does a map depend on what it claims to explain? On the parameters, the labels, the seed?

Adebayo et al., Sanity Checks for Saliency Maps, 2018. A map that stays the same when the model has
forgotten everything explains the image and not the model; one that looks like the image's edges
may be nothing else; one that differs from seed to seed says little about either.
"""

import copy
import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from milr import taps
from milr.evaluation import checks
from milr.evaluation.statistics import rank_correlation
from milr.peers.baselines import edges


def cascade(
    model: nn.Module, layers: Sequence[str] = (), seed: int = 0
) -> Iterator[tuple[str, nn.Module]]:
    """The model with more and more of its layers as they were before training, from the top.

    layers: names, the top one first; those of the model's children that have parameters if none
    are given. Yields the name of the layer that was forgotten last, and a copy of the model in
    which it and all before it start anew, as `reset_parameters` of their parts has it (batch
    normalisation also forgets its statistics). The model stays as it is; it is one copy, so be done
    with it before you ask for the next.
    Raises ValueError for an unknown layer, one without parameters, or one with parameters that no
    part of it resets, which would be remembered.
    """
    ready = copy.deepcopy(model)
    names = tuple(layers) or _from_the_top(model)
    resets = {name: _resets(taps.find_layer(ready, name), name) for name in names}
    for name in names:
        with torch.random.fork_rng():
            # Of its own for each layer, and no number that the model may have started from.
            torch.manual_seed(zlib.crc32(f"{seed} {name} forgotten".encode()))
            for reset in resets[name]:
                reset()
        yield name, ready


def permuted(targets: Tensor, seed: int = 0) -> Tensor:
    """The same labels (n,), dealt out anew: train on them, and a map can only show memory."""
    drawn = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    return targets[drawn]


def rank_similarity(maps: Tensor, others: Tensor) -> Tensor:
    """Spearman's rank correlation of each two maps (B, H, W), over their pixels: (B,).

    Signs count; take `maps.abs()` to compare magnitudes. NaN where either is constant: it has no
    order, so it can neither pass nor fail. Raises ValueError for maps of different shapes.
    """
    _check_alike(maps, others)
    columns = (each.detach().cpu().flatten(1).numpy() for each in (maps, others))
    return torch.from_numpy(rank_correlation(*columns))


def edge_similarity(maps: Tensor, images: Tensor) -> Tensor:
    """Rank correlation of maps (B, H, W) with the edges of their images (B, C, H, W): (B,).

    Raises ValueError for maps of another resolution or number than the images.
    """
    return rank_similarity(maps, edges(None, images))


def seed_similarity(maps: Sequence[Tensor]) -> Tensor:
    """Rank correlation, image by image, of each two of several maps (B, H, W): (pairs, B).

    The maps are of the same images, by explainers, or of models, that differ in their seed alone.
    Raises ValueError for fewer than two, or different shapes.
    """
    if len(maps) < 2:
        raise ValueError(f"{len(maps)} set of maps; give two or more, one of each seed")
    return torch.stack([rank_similarity(a, b) for a, b in itertools.combinations(maps, 2)])


def _resets(layer: nn.Module, name: str) -> list[Callable[[], None]]:
    """What lets the parts of a layer start anew."""
    found, kept = [], []
    for place, part in layer.named_modules(prefix=name):
        # torch's attention has it by the other name.
        ways = (getattr(part, way, None) for way in ("reset_parameters", "_reset_parameters"))
        reset = next(filter(None, ways), None)
        if reset:
            found.append(reset)
        else:
            kept += [f"{place}.{own}" for own, _ in part.named_parameters(recurse=False)]
    if kept:
        raise ValueError(
            f"nothing resets {', '.join(kept)}, so that this would be remembered; give the module "
            "a method reset_parameters"
        )
    if not found:
        raise ValueError(f"layer {name!r} has no parameters to forget; name another one")
    return found


def _from_the_top(model: nn.Module) -> list[str]:
    names = [name for name, child in model.named_children() if list(child.parameters())]
    return names[::-1]


def _check_alike(maps: Tensor, others: Tensor) -> None:
    for each in (maps, others):
        checks.maps(each)
    if maps.shape != others.shape:
        raise ValueError(
            f"maps of shapes {tuple(maps.shape)} and {tuple(others.shape)}; give both of one shape"
        )
