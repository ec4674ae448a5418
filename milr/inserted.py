"""What is inserted beside a model: the mask, the two critics, and the numbers they stand on."""

import torch
from torch import Tensor, nn

from milr import bottleneck
from milr.infonce import make_critic

BUFFERS = ("local", "evidence", "z")
BANKS = ("total_bank", "decision_bank")


class Inserted(nn.Module):
    """The MI-LR module (figure 1 of the paper).

    moments: mean and standard deviation per channel, (C,) each, under "local", "evidence" and "z".
    critic: kind of both critics. seed: of the initial weights.
    `total_bank` and `decision_bank` hold the embedded local features of samples kept as negatives.
    """

    def __init__(self, moments: dict[str, tuple[Tensor, Tensor]], critic: str, seed: int):
        super().__init__()
        for name in BUFFERS:
            for kind, value in zip(("mean", "std"), moments[name], strict=True):
                self.register_buffer(f"{name}_{kind}", value)
        for name in BANKS:
            self.register_buffer(name, torch.empty(0))
        channels, width = len(self.local_mean), len(self.z_mean)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.mask = bottleneck.MaskNetwork(len(self.evidence_mean), channels)
            self.total = make_critic(critic, channels, width)
            self.decision = make_critic(critic, channels, width)

    def keep(self, evidence: Tensor) -> Tensor:
        """Share of each channel that the bottleneck keeps: (B, N, E) -> (B, N, C)."""
        return self.mask((evidence - self.evidence_mean) / self.evidence_std)

    def inject(self, local: Tensor, keep: Tensor, noise: Tensor) -> Tensor:
        return bottleneck.inject(local, keep, self.local_mean, self.local_std, noise)

    def capacity(self, local: Tensor, keep: Tensor) -> Tensor:
        return bottleneck.capacity(local, keep, self.local_mean, self.local_std)

    def standard_local(self, local: Tensor) -> Tensor:
        return (local - self.local_mean) / self.local_std

    def standard_z(self, z: Tensor) -> Tensor:
        return (z - self.z_mean) / self.z_std


def from_state(state: dict[str, Tensor], critic: str) -> Inserted:
    """The module whose `state_dict` this is."""
    moments = {name: (state[f"{name}_mean"], state[f"{name}_std"]) for name in BUFFERS}
    inserted = Inserted(moments, critic, seed=0)
    for name in BANKS:
        setattr(inserted, name, torch.empty_like(state[name]))
    inserted.load_state_dict(state)
    return inserted.requires_grad_(False).eval()
