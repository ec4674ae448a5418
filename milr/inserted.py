"""What is inserted beside a model: the masks, the critics, and the numbers they stand on.

Figure 1 and section 3.4 of the paper. The mask is that of section 3.4.2, which may see several
layers (item 6 of the patent text); what it closes is replaced by noise (item 4) and not by 0.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from milr import bottleneck
from milr.infonce import make_critic
from milr.maps import MIDDLE

# Of each information: what is kept of further samples, for the explanations to come.
KEPT = ("bank", "seen", "normaliser")
BANKS = tuple(f"{which}_{kept}" for which in ("total", "decision") for kept in KEPT)


class Inserted(nn.Module):
    """The MI-LR module (figure 1 of the paper).

    moments: mean and standard deviation per channel, (C,) each, under "local", "z" and for each
    layer of evidence "evidence 0", "evidence 1" and so on. locations: (H, W), or (N,) for tokens;
    the buffer `offset` says where in its cell of the image one looks (`milr.taps.offset`).
    critic: kind of the critics, of which each information has `members`: the mean of their bounds
    is a bound as well, and its maps depend less on where the critics started. masks: how many mask
    networks, whose mean is the mask, for the same reason. seed: of the initial weights.
    `total_bank` and `decision_bank`, (members, samples, N, width), hold the embedded local features
    of samples kept as negatives; `total_seen` and `decision_seen`, (members, samples, width), their
    embedded representations; `total_normaliser` and `decision_normaliser`, (members, N, samples),
    what `readings.log_normaliser` says of both.
    Raises ValueError for another kind of critic.
    """

    def __init__(
        self,
        moments: dict[str, tuple[Tensor, Tensor]],
        locations: tuple[int, ...],
        critic: str,
        members: int,
        masks: int,
        seed: int,
    ):
        super().__init__()
        self.locations, self.members = tuple(locations), members
        for name, pair in moments.items():
            for kind, value in zip(("mean", "std"), pair, strict=True):
                self.register_buffer(f"{name} {kind}", value)
        for name in BANKS:
            self.register_buffer(name, torch.empty(0))
        self.register_buffer("offset", torch.tensor(MIDDLE))
        self.layers = len(moments) - 2
        evidence = [len(self._mean(f"evidence {i}")) for i in range(self.layers)]
        channels, width = len(self._mean("local")), len(self._mean("z"))
        # Of the CPU alone: torch.manual_seed would begin the random numbers of a GPU anew, too.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            networks = (bottleneck.MaskNetwork(evidence, channels) for _ in range(masks))
            self.mask = bottleneck.MaskNetworks(networks)
            self.total = _critics(critic, channels, width, members)
            self.decision = _critics(critic, channels, width, members)
        self.float()  # also where that is not torch's default

    def keep(self, evidence: Sequence[Tensor]) -> Tensor:
        """Share of each channel that the bottleneck keeps, (B, N, C), from the layers' outputs.

        evidence: an output for each layer, maps (B, C', h, w) or tokens (B, N, C'). This is the
        paper's alpha (section 3.4.2).
        """
        return self.mask(self.standard_evidence(evidence), self.locations)

    def standard_evidence(self, evidence: Sequence[Tensor]) -> list[Tensor]:
        """The layers' outputs, as they are shaped, with mean 0 and deviation 1 per channel."""
        return [self._standard(f"evidence {i}", output) for i, output in enumerate(evidence)]

    def inject(self, local: Tensor, keep: Tensor, noise: Tensor) -> Tensor:
        """`bottleneck.inject` with the moments of the local features; all (B, N, C)."""
        return bottleneck.inject(local, keep, self._mean("local"), self._std("local"), noise)

    def capacity(self, local: Tensor, keep: Tensor) -> Tensor:
        """`bottleneck.capacity` with the moments of the local features; (B, N, C), nats."""
        return bottleneck.capacity(local, keep, self._mean("local"), self._std("local"))

    def standard_local(self, local: Tensor) -> Tensor:
        """(..., C) with mean 0 and deviation 1 per channel: what the critics read."""
        return self._standard("local", local)

    def standard_z(self, z: Tensor) -> Tensor:
        """(B, D) with mean 0 and deviation 1 per number: what the critics read."""
        return self._standard("z", z)

    def _standard(self, name: str, x: Tensor) -> Tensor:
        shape = (-1, 1, 1) if x.dim() == 4 else (-1,)
        return (x - self._mean(name).view(shape)) / self._std(name).view(shape)

    def _mean(self, name: str) -> Tensor:
        return self.get_buffer(f"{name} mean")

    def _std(self, name: str) -> Tensor:
        return self.get_buffer(f"{name} std")


def _critics(kind: str, channels: int, width: int, members: int) -> nn.ModuleList:
    return nn.ModuleList(make_critic(kind, channels, width) for _ in range(members))


def from_state(state: dict[str, Tensor], locations: Sequence[int], critic: str) -> Inserted:
    """The module whose `state_dict` this is, in evaluation mode and without gradients.

    locations: (H, W), or (N,) for tokens; critic: kind of its critics. All else, the numbers of
    critics and masks included, is read from the shapes in the state, which are those of `Inserted`.
    Raises ValueError for an unknown kind, and RuntimeError for one that the state is not of.
    """
    names = [key.removesuffix(" mean") for key in state if key.endswith(" mean")]
    moments = {name: (state[f"{name} mean"], state[f"{name} std"]) for name in names}
    members = len(state["total_bank"])
    masks = len({key.split(".")[1] for key in state if key.startswith("mask.")})
    inserted = Inserted(moments, tuple(locations), critic, members, masks, seed=0)
    for name in BANKS:
        setattr(inserted, name, torch.empty_like(state[name]))
    inserted.load_state_dict(state)
    return inserted.requires_grad_(False).eval()
