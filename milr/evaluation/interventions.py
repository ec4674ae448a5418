"""What a network makes of a drawn bird of which one part was exchanged, all else equal.

A part that defines a species may go unused by a network, and one that varies freely may sway it.
Redrawing the part and looking at what moves tells which; maps are judged against that.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from milr.data import birds
from milr.data.birds import Drawing, Species
from milr.models.prototypical import embed

Picture = tuple[Species, int]
# Called with picture, part, seed and size.
Change = Callable[[Picture, str, int, int], Drawing]


def pictures(split: str, per_species: int, seed: int = 0, world: str = "all") -> list[Picture]:
    """Species and seed of each picture of `birds.load` with the same arguments, in its order."""
    return [
        (species, birds.picture_seed(seed, split, species, number))
        for species in birds.splits(world)[split]
        for number in range(per_species)
    ]


def replaced(picture: Picture, part: str, seed: int = 0, size: int = 84) -> Drawing:
    """The picture with this part as another bird has it, drawn at random.

    A part that defines the species is taken from a species of the same world which looks
    different there; any other part (the background, say) from another picture.
    """
    species, scene = picture
    draw = random.Random(f"{seed} {scene} {part}")
    defines = part in species.defining
    lender = draw.choice(_lenders(species, part)) if defines else draw.randrange(2**31)
    return birds.generate(species, scene, size, replace={part: lender})


def removed(picture: Picture, part: str, seed: int = 0, size: int = 84) -> Drawing:
    """The picture without this part; `seed` has no effect, as there is nothing to draw."""
    return birds.generate(*picture, size, remove=(part,))


@dataclass(frozen=True, eq=False)
class Movement:
    """Representations of pictures as drawn and with one part changed at a time.

    parts:   names of the P parts
    clean:   (n, D) float32, of the pictures as drawn
    changed: (P, n, D) float32, of those with a part changed
    area:    (P, n) float32, share of the picture's pixels that differ
    """

    parts: tuple[str, ...]
    clean: Tensor
    changed: Tensor
    area: Tensor

    @property
    def turned(self) -> Tensor:
        """How far the representation moved: 1 - cosine, (P, n) float32, between 0 and 2."""
        return 1 - torch.cosine_similarity(self.changed, self.clean[None], dim=-1)


def movement(
    model: nn.Module,
    originals: Sequence[Picture],
    parts: Sequence[str] | None = None,
    change: Change = replaced,
    seed: int = 0,
    size: int = 84,
) -> Movement:
    """Change each of the parts in each of the pictures, and see where the representation goes.

    model: gives the representation (B, D) of normalised images; used in evaluation mode.
    change: `replaced` or `removed`; parts: all if None, but the background, which can't be removed.
    Raises ValueError for an unknown part.
    """
    if parts is None:
        parts = [part for part in birds.PARTS if change is replaced or part != "background"]
    drawn = _stack([birds.generate(*picture, size) for picture in originals])
    changed, area = [], []
    for part in parts:
        redrawn = _stack([change(picture, part, seed, size) for picture in originals])
        changed.append(embed(model, redrawn))
        area.append((redrawn != drawn).any(1).float().mean((1, 2)))
    return Movement(tuple(parts), embed(model, drawn), torch.stack(changed), torch.stack(area))


@torch.no_grad()
def log_probability_change(
    model: nn.Module, moved: Movement, support: Tensor, right: Tensor
) -> Tensor:
    """By how much the log-probability of the right class changes, (P, n) float32, in nats.

    Negative where the change of the part speaks against the right class.

    model:   has `logits` as `PrototypicalNetwork`
    support: (n, ways, shots, D), embeddings of the episode in which each picture is a query
    right:   (n,) int64, row of the right class
    """
    device = next(model.parameters()).device

    def log_probability(query: Tensor) -> Tensor:
        found = [
            model.logits(s.to(device), q[None].to(device)).log_softmax(1)[0, r].cpu()
            for s, q, r in zip(support, query, right, strict=True)
        ]
        return torch.stack(found)

    clean = log_probability(moved.clean)
    return torch.stack([log_probability(part) - clean for part in moved.changed])


def _lenders(species: Species, part: str) -> list[Species]:
    """Species of the same world that look different at this part."""
    names = birds.attributes_of(part)
    everyone = [other for split in birds.splits(species.world).values() for other in split]
    return [o for o in everyone if any(o.values[n] != species.values[n] for n in names)]


def _stack(drawings: list[Drawing]) -> Tensor:
    images = torch.from_numpy(np.stack([drawing.image for drawing in drawings]))
    return images.permute(0, 3, 1, 2).contiguous()
