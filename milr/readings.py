"""Two readings of a location's information, by the same fitted critics.

*Pointwise*: log p(z | x_n) / p(z) at the image's own z. One draw of z stands for all that the
location leaves open, so a location that speaks for many z, this one not among them, gets a negative
number. *Surprise*: the divergence of p(z | x_n) from what is believed without the location, which
takes the mean over all z that the location thinks possible. It is never negative. For a perfect
critic the mean of either over samples is the information of the location about z. For a fitted one
the pointwise mean still is a lower bound, on samples it has not seen that come from where those of
the bank do (from elsewhere it can read too much: the denominator is then of other samples); the
mean surprise bounds nothing, since a critic that is sure and wrong reads as much as one that is
sure and right.
"""

import math

import torch
from torch import Tensor, nn

from milr import infonce
from milr.inserted import Inserted

READINGS = ("pointwise", "surprise")
Z_AT_ONCE = 256


def check(reading: str) -> None:
    """Raises ValueError for a reading that does not exist."""
    if reading not in READINGS:
        raise ValueError(f"reading is {reading!r}; it must be one of {', '.join(READINGS)}")


def log_normaliser(critic: nn.Module, bank: Tensor, v: Tensor) -> Tensor:
    """The logarithm of the mean over M samples x of exp f(x_n, z^j), (N, J).

    bank: embedded local features (M, N, width); v: embedded representations (J, width). A score
    minus this is the critic's log p(z^j | x_n) / p(z^j), whatever function of z alone it contains.
    """
    columns = []
    for some in v.split(Z_AT_ONCE):
        blocks = infonce._blocks(critic, bank, len(some))
        columns.append(torch.cat([critic.score(block, some).logsumexp(0) for block in blocks]))
    return torch.cat(columns, 1) - math.log(len(bank))


def divergence(log_ratios: Tensor, prior: Tensor | None = None) -> Tensor:
    """How far a local feature moves the belief about z: KL(p(z | x_n) || prior), in nats, >= 0.

    log_ratios: (..., J), log p(z^j | x_n) / p(z^j) for J representations drawn from p(z); prior:
    the same of what is believed before, (..., J) up to broadcasting, p(z) itself if None. At most
    log J then. Averaged over x_n it is I(x_n; z), for the true ratios. The "specific
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
    does not count as a message. It follows that the mean behind a bottleneck is not I(x'_n; z), nor
    bounded by the capacity.
    """
    critics, seen = getattr(inserted, which), getattr(inserted, f"{which}_seen")
    width = max(_width(critic) for critic in critics)
    step = max(1, infonce.BLOCK // (draws.shape[1] * seen.shape[1] * width))
    found = []
    for start in range(0, draws.shape[2], step):
        rows = slice(start, start + step)
        before = None if silent is None else _log_ratios(inserted, which, silent, rows)
        found.append(divergence(_log_ratios(inserted, which, draws, rows), before))
    return torch.cat(found, 1)


def _log_ratios(inserted: Inserted, which: str, draws: Tensor, rows: slice) -> Tensor:
    """(B, n, J) at some of the locations, the mean over critics and draws (D, B, N, C)."""
    found = []
    kept = (getattr(inserted, f"{which}_{name}") for name in ("seen", "normaliser"))
    for critic, v, normaliser in zip(getattr(inserted, which), *kept, strict=True):
        embedded = [critic.local(inserted.standard_local(one[:, rows])) for one in draws]
        if isinstance(critic, infonce.SeparableCritic):
            # Its scores are linear in what it embeds, so one mean stands for all draws.
            embedded = [_mean(embedded)]
        found.append(_mean([critic.score(u, v) for u in embedded]) - normaliser[rows])
    return _mean(found)


def _width(critic: nn.Module) -> int:
    """Numbers that a single score takes on its way."""
    return critic.width if isinstance(critic, infonce.ConcatenatedCritic) else 1


def _mean(parts: list[Tensor]) -> Tensor:
    return sum(parts[1:], parts[0]) / len(parts)
