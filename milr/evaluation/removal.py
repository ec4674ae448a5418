"""Taking away by a map, once for all measures: sufficiency, necessity, insertion and deletion.

Insertion and deletion: Petsiuk et al., RISE, 2018.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from milr import bottleneck
from milr.evaluation import checks, perturbation
from milr.evaluation.perturbation import Run
from milr.explainer import MILR, draw_noise
from milr.peers.targets import Target


@dataclass(frozen=True, eq=False)
class Removal:
    """A scalar of B images as more and more locations are kept, and as more are dropped.

    shares:  (S,), from 0 to 1
    kept:    (S, B) with only the most relevant share left (insertion, sufficiency)
    dropped: (S, B) without the most relevant share (deletion, necessity)
    """

    shares: Tensor
    kept: Tensor
    dropped: Tensor

    @property
    def insertion(self) -> Tensor:
        """(B,) mean over shares of what is kept: high is good."""
        return torch.trapezoid(self.kept, self.shares, dim=0)

    @property
    def deletion(self) -> Tensor:
        """(B,) mean over shares of what is dropped: low is good."""
        return torch.trapezoid(self.dropped, self.shares, dim=0)

    def at(self, share: float) -> tuple[Tensor, Tensor]:
        """What is left, (B,) each, of keeping and of dropping this share, one of `shares`.

        Raises ValueError for another one.
        """
        far = (self.shares - share).abs()
        row = int(far.argmin())
        if far[row] > 1e-6:
            known = ", ".join(f"{one:g}" for one in self.shares.tolist())
            raise ValueError(f"share is {share}; it was measured at {known}")
        return self.kept[row], self.dropped[row]


def ends(
    run: Run, images: Tensor, measures: Mapping[str, Target], grid: tuple[int, int]
) -> dict[str, Tensor]:
    """Each measure with nothing left, and with all: (2, B). No method matters for these."""
    nothing = torch.zeros(len(images), *grid)
    return perturbation.keep(run, images, nothing, measures, grid, (0.0, 1.0))


def removal(
    run: Run,
    images: Tensor,
    maps: Tensor,
    measures: Mapping[str, Target],
    grid: tuple[int, int],
    ends: Mapping[str, Tensor],
    shares: Sequence[float],
) -> dict[str, Removal]:
    """Keep, and drop, shares of the locations in the order of the maps (B, H, W).

    run, measures, grid: as for `perturbation.curves`; ends: what `ends` gives for the same. shares:
    between 0 and 1, the smallest first, or ValueError is raised; so it is if images and maps differ
    in number.
    """
    checks.shares(shares, rising=True)
    kept = perturbation.keep(run, images, maps, measures, grid, shares)
    dropped = perturbation.drop(run, images, maps, measures, grid, shares)
    along = torch.tensor([0.0, *shares, 1.0])
    found = {}
    for name, (nothing, everything) in ends.items():
        whole = torch.cat([nothing[None], kept[name], everything[None]])
        less = torch.cat([everything[None], dropped[name], nothing[None]])
        found[name] = Removal(along, whole, less)
    return found


def passed_and_stopped(explainer: MILR, images: Tensor, batch_size: int = 64) -> tuple:
    """Outputs with only what the bottleneck passes, and with only what it stops: (B, ...) each.

    images: (B, ...), normalised. For the second the shares are turned round: as much of a feature
    comes through as was replaced by noise before. That is no remainder: a share below a half is
    told in full by the larger one, so it says nothing on whether what passes is needed. The same
    noise for both, drawn anew for every image. On the CPU. Raises as `MILR.through` does.
    """
    found = explainer.state()["inserted"]
    outputs: tuple[list, list] = ([], [])
    generator = explainer.generator("passed and stopped")
    with explainer.frozen_model() as device, torch.no_grad():
        mean, std = (found[f"local {name}"].to(device) for name in ("mean", "std"))
        for chunk, keep in zip(
            images.split(batch_size), explainer.keep(images).split(batch_size), strict=True
        ):
            features = explainer.features(chunk.to(device))
            noise = draw_noise(features.local.shape, generator, device)
            for each, share in zip(outputs, (keep, 1 - keep), strict=True):
                local = bottleneck.inject(features.local, share.to(device), mean, std, noise)
                each.append(explainer.run_with(chunk.to(device), local).cpu())
    return torch.cat(outputs[0]), torch.cat(outputs[1])
