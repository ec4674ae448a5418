"""Do two explanations agree, and what does a change of the features leave of their information?"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from milr.evaluation import checks
from milr.infonce import critic_bound, make_critic
from milr.maps import BITS

# Standardised features beyond this are cut off: an almost dead channel must not blow up.
FARTHEST = 10.0


def pairwise_correlation(maps: Sequence[Tensor]) -> Tensor:
    """Pearson's correlation of each two of several maps (B, H, W), over all values: (pairs,).

    Pairs in the order of `itertools.combinations`. Raises ValueError for fewer than two maps, maps
    of different shapes or not finite, and constant ones, which correlate with nothing.
    """
    maps = list(maps)
    for one in maps:
        checks.maps(one)
    shapes = {tuple(m.shape) for m in maps}
    if len(maps) < 2 or len(shapes) > 1:
        raise ValueError(
            f"{len(maps)} maps of shapes {sorted(shapes)}; give two or more of one shape"
        )
    columns = [m.flatten().double() - m.double().mean() for m in maps]
    # The mean of equal numbers may be rounded.
    if any(m.min() == m.max() for m in maps):
        raise ValueError("a map is constant, so it correlates with nothing; leave it out")
    units = [column / column.norm() for column in columns]
    return torch.stack([a @ b for a, b in itertools.combinations(units, 2)])


@dataclass(frozen=True)
class Samples:
    """What the network knows of some images, and what the mask keeps of it."""

    local: Tensor  # (n, N, C)
    keep: Tensor  # (n, N, C)
    z: Tensor  # (n, D)


def samples(explainer, images: Tensor, batch_size: int = 64) -> Samples:
    """`Samples` of normalised images (n, ...), on the CPU, of a fitted `MILR`."""
    found = []
    with explainer.frozen_model() as device:
        for chunk in images.split(batch_size):
            features = explainer.features(chunk.to(device))
            found.append((features.local.cpu(), features.z.cpu()))
    local, z = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Samples(local, explainer.keep(images, batch_size), z)


@torch.enable_grad()
def information_after(
    change: Callable[[Samples], Tensor],
    learned: Samples,
    tested: Samples,
    *,
    steps: int = 150,
    critic: str = "two-layer",
    batch: int = 48,
    locations: int = 128,
    hidden: float = 0.8,
    seed: int = 0,
) -> tuple[float, float]:
    """What changed features of an average location tell of z: bits, with their standard error.

    change: Samples to local features (n, N, C); it may draw noise, anew each time. A fresh critic
    learns on `learned` and is read on `tested`, in groups of `batch` (InfoNCE: at most log2 batch).
    Features are standardised location by location, so that only what is lost for good is missed,
    and not their scale. locations: how many of them a step takes; hidden: share of z's numbers
    that a step hides, as when a `MILR` is fitted.
    Raises ValueError for fewer than two groups to test.
    """
    if len(tested.z) < 2 * batch:
        raise ValueError(f"{len(tested.z)} samples to test; give at least two times {batch}")
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        standard, standard_z = _standardiser(change(learned)), _standardiser(learned.z)
        network = make_critic(critic, learned.local.shape[-1], learned.z.shape[-1])
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _ in range(steps):
            drawn = torch.randperm(len(learned.z), generator=generator)[:batch]
            x = standard(change(_some(learned, drawn)))
            place = torch.randperm(x.shape[1], generator=generator)[:locations]
            z = standard_z(learned.z[drawn])
            z = z * (torch.rand(z.shape, generator=generator) >= hidden) / (1 - hidden)
            loss = -critic_bound(network, *network.embed(x[:, place], z))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return _read(network, change, tested, standard, standard_z, batch)


@torch.no_grad()
def _read(network, change, tested, standard, standard_z, batch) -> tuple[float, float]:
    """Mean of the bound over whole groups, with its standard error, in bits."""
    bounds = []
    for start in range(0, len(tested.z) - batch + 1, batch):
        group = _some(tested, torch.arange(start, start + batch))
        u, v = network.embed(standard(change(group)), standard_z(group.z))
        bounds.append(critic_bound(network, u, v))
    values = BITS * torch.stack(bounds)
    return float(values.mean()), float(values.std() / math.sqrt(len(values)))


def _some(whole: Samples, indices: Tensor) -> Samples:
    return Samples(whole.local[indices], whole.keep[indices], whole.z[indices])


def _standardiser(x: Tensor) -> Callable[[Tensor], Tensor]:
    """By the mean and deviation over samples of each place; what never changes becomes 0."""
    mean, std = x.mean(0), x.std(0)
    scale = torch.where(std > 0, 1 / std, 0)
    return lambda values: ((values - mean) * scale).clamp(-FARTHEST, FARTHEST)
