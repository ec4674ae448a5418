"""Two readings of a location's information, by the same fitted critics.

*Pointwise*: log p(z | x_n) / p(z) at the image's own z. One draw of z stands for all that the
location leaves open, so a location that speaks for many z, this one not among them, gets a negative
number. *Surprise*: the divergence of p(z | x_n) from what is believed without the location, which
takes the mean over all z that the location thinks possible. It is never negative. Averaged over
samples, both are the information of the location about z.
"""

import math

import torch
from torch import Tensor, nn

from milr import infonce
from milr.inserted import Inserted

READINGS = ("pointwise", "surprise")


def check(reading: str) -> None:
    """Raises ValueError for a reading that does not exist."""
    if reading not in READINGS:
        raise ValueError(f"reading is {reading!r}; it must be one of {', '.join(READINGS)}")


def log_normaliser(critic: nn.Module, bank: Tensor, v: Tensor) -> Tensor:
    """The logarithm of the mean over M samples x of exp f(x_n, z^j), (N, J).

    bank: embedded local features (M, N, width); v: embedded representations (J, width). A score
    minus this is the critic's log p(z^j | x_n) / p(z^j), whatever function of z alone it contains.
    """
    parts = [critic.score(block, v).logsumexp(0) for block in infonce._blocks(critic, bank, len(v))]
    return torch.cat(parts) - math.log(len(bank))


def divergence(log_ratios: Tensor, prior: Tensor | None = None) -> Tensor:
    """How far a local feature moves the belief about z: KL(p(z | x_n) || prior), in nats, >= 0.

    log_ratios: (..., J), log p(z^j | x_n) / p(z^j) for J representations drawn from p(z); prior:
    the same of what is believed before, (..., J) up to broadcasting, p(z) itself if None. At most
    log J then. Averaged over x_n it is I(x_n; z), as pointwise information is. The "specific
    surprise" of DeWeese and Meister, 1999, and the Bayesian surprise of Itti and Baldi, 2009.
    """
    belief = log_ratios.log_softmax(-1)
    before = -math.log(belief.shape[-1]) if prior is None else prior.log_softmax(-1)
    return (belief.exp() * (belief - before)).sum(-1).clamp(min=0)


def pointwise(inserted: Inserted, which: str, draws: Tensor, z: Tensor) -> Tensor:
    """(B, N) in nats, signed, the mean over draws and critics.

    which: "total" or "decision"; draws: local features (D, B, N, C); z: (B, D'), not standardised.
    """
    critics = list(zip(getattr(inserted, which), getattr(inserted, f"{which}_bank"), strict=True))
    z = inserted.standard_z(z)
    found = []
    for local in draws:
        x = inserted.standard_local(local)
        values = [infonce.pointwise_against(c, *c.embed(x, z), bank) for c, bank in critics]
        found.append(torch.stack(values).mean(0))
    return torch.stack(found).mean(0)


def surprise(inserted: Inserted, which: str, draws: Tensor, silent: Tensor | None = None) -> Tensor:
    """(B, N) in nats, at least 0; against what `silent` leaves believed, p(z) if it is None.

    which, draws: as for `pointwise`; silent: draws of local features (D, 1, N, C) that say nothing.
    The log-ratios are averaged over draws and critics before the belief is formed, so that noise
    does not count as a message.
    """
    told = _Told(inserted, which, draws)
    before = None if silent is None else _Told(inserted, which, silent)
    locations = draws.shape[2]
    step = max(1, infonce.BLOCK // (draws.shape[1] * told.seen.shape[1]))
    parts = []
    for start in range(0, locations, step):
        rows = slice(start, start + step)
        parts.append(divergence(told.on(rows), before and before.on(rows)))
    return torch.cat(parts, 1)


class _Told:
    """The mean log-ratios of draws (D, B, N, C), for a block of locations at a time."""

    def __init__(self, inserted: Inserted, which: str, draws: Tensor):
        self.critics = getattr(inserted, which)
        self.seen = getattr(inserted, f"{which}_seen")
        self.normaliser = getattr(inserted, f"{which}_normaliser")
        self.embedded = [
            torch.stack([critic.local(inserted.standard_local(one)) for one in draws])
            for critic in self.critics
        ]
        for i, critic in enumerate(self.critics):
            if isinstance(critic, infonce.SeparableCritic):
                # Its scores are linear in what it embeds, so one mean stands for all draws.
                self.embedded[i] = self.embedded[i].mean(0, keepdim=True)

    def on(self, rows: slice) -> Tensor:
        """(B, n, J) for these locations."""
        each = zip(self.critics, self.embedded, self.seen, self.normaliser, strict=True)
        ratios = [
            torch.stack([critic.score(u[:, rows], v) for u in embedded]).mean(0) - normaliser[rows]
            for critic, embedded, v, normaliser in each
        ]
        return torch.stack(ratios).mean(0)
