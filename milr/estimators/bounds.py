"""What critics are trained on, and what is read from their scores.

Scores are (..., K, K) for K pairs, entry [m, j] = f(x^m, z^j); the diagonal holds the pairs that
belong together. For the InfoNCE forms they are (K, N, K), as in `milr.infonce`. Nats.

A value is given with the influence of each sample, (K,): how far the value would move, times K, if
the sample were taken once more. Its deviation over the square root of K is the standard error (the
delta method; each sample counts in its own row and in its column).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from milr.infonce import lower_bound

# Scores beyond this are cut in SMILE (Song and Ermon 2020); they report from 1 to 10 and infinity.
CLIP = 5.0
# Of the running mean of e^f in MINE's gradient (Belghazi et al. 2018, section 3.2).
MEMORY = 0.99


def objective(kind: str):
    """The loss of a batch of scores (R, K, N, K) of R critics: R numbers, less is better.

    kind: "location", "paper", "pooled", "mine", "nwj" or "jsd", the last three of N = 1. A function
    with a memory of its own where the method has one (MINE).
    """
    if kind in ("location", "paper", "pooled"):
        return torch.vmap(lambda scores: -lower_bound(scores, kind))
    if kind == "mine":
        return _MineLoss()
    loss = {"nwj": _nwj_loss, "jsd": _jsd_loss}[kind]
    return lambda scores: loss(scores.squeeze(2))


class _MineLoss:
    """Donsker-Varadhan with the gradient's denominator averaged over steps.

    The gradient of log mean e^f on a batch is biased, for the mean stands in a denominator; a
    running mean over steps lessens that.
    """

    def __init__(self):
        self.log_mean = None

    def __call__(self, scores: Tensor) -> Tensor:
        scores = scores.squeeze(2)
        now = _log_mean_exp(scores)
        before = now.detach() if self.log_mean is None else self.log_mean
        old, new = before + math.log(MEMORY), now.detach() + math.log(1 - MEMORY)
        self.log_mean = torch.logaddexp(old, new)
        weighted = (now - self.log_mean).exp()
        own = _own(scores).mean(-1)
        # The value is that of the bound, the gradient that of the corrected loss.
        return weighted - weighted.detach() + now.detach() - own


def _nwj_loss(scores: Tensor) -> Tensor:
    return _log_mean_exp(scores).exp() - 1 - _own(scores).mean(-1)


def _jsd_loss(scores: Tensor) -> Tensor:
    return F.softplus(-_own(scores)).mean(-1) + _off_mean(F.softplus(scores))


def infonce(scores: Tensor, form: str = "location") -> tuple[Tensor, Tensor, Tensor]:
    """Value, influence (K,) and values of the locations (N,) of a form of `milr.infonce`.

    scores: (K, N, K). The value is that of `milr.infonce.lower_bound`, in nats.
    """
    k, n = scores.shape[:2]
    own = torch.diagonal(scores, dim1=0, dim2=2)  # (N, K)
    if form == "location":
        each = own - scores.logsumexp(0) + math.log(k)
        share = scores.softmax(0).mean(1).sum(1)
    elif form == "paper":
        total = scores.logsumexp((0, 1))
        each = own - total + math.log(n * k)
        share = (scores - total).exp().sum((1, 2))
    else:
        eye = torch.eye(k, dtype=torch.bool, device=scores.device)
        others = scores.masked_fill(eye[:, None], -math.inf)
        rest = others.logsumexp((0, 1)) - math.log(n)
        total = torch.logaddexp(own, rest)
        each = own - total + math.log(k)
        taken = (others.logsumexp(1) - math.log(n))[:, None] - total  # (K, N, K)
        share = taken.exp().mean(1).sum(1) + (own - total).exp().mean(0)
    return each.mean(), each.mean(0) - share + 1, each.mean(1)


def donsker_varadhan(scores: Tensor, clip: float = math.inf) -> tuple[Tensor, Tensor]:
    """Mean of f over pairs minus log of the mean of e^f over others, f cut there to +-clip.

    scores: (K, K). Gives value and influence (K,), in nats. MINE (Belghazi et al. 2018), and with a
    clip SMILE (Song and Ermon 2020).
    """
    cut = scores.clamp(-clip, clip)
    log_mean = _log_mean_exp(cut)
    influence = _own(scores) - log_mean - (_both_means((cut - log_mean).exp()) - 2)
    return _own(scores).mean() - log_mean, influence


def nwj(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of f over pairs, plus 1, minus the mean of e^f over others (Nguyen et al. 2010).

    scores: (K, K). Gives value and influence (K,), in nats. Published is E f - E' e^(f - 1); this
    is the same with f + 1 in the place of f, so that the best f is the log-ratio itself, as it is
    for the other methods, and a critic may begin there.
    """
    others = scores.exp()
    influence = _own(scores) - _both_means(others)
    return _own(scores).mean() + 1 - _off_mean(others), influence


def plug_in(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of f over pairs: right where f is the log-ratio, as JSD's best critic is.

    scores: (K, K). Gives value and influence (K,), in nats (Poole et al. 2019).
    """
    return _own(scores).mean(), _own(scores)


def club(log_q: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of log q(z | x) over pairs minus the same over all others (Cheng et al. 2020).

    log_q: (K, K), entry [m, j] = log q(z^j | x^m). Gives value and influence (K,), in nats.
    """
    return _own(log_q).mean() - _off_mean(log_q), _own(log_q) - _both_means(log_q)


def club_sampled(log_q: Tensor) -> tuple[Tensor, Tensor]:
    """CLUB with a single other for each sample: the next one, for their order is random.

    log_q: (K, K), as for `club`. Gives value and influence (K,), in nats. A sample counts in its
    own gap and, as the other, in the one before. Its part in that, minus the mean of its column, is
    moved to its own, so that neighbouring influences no longer go together; their mean stays.
    """
    gap = _own(log_q) - torch.diagonal(log_q.roll(-1, dims=1))
    as_other = _off(log_q, 0).sum(0) / (len(log_q) - 1)
    return gap.mean(), gap + as_other.roll(-1) - as_other


def leave_one_out(log_q: Tensor) -> tuple[Tensor, Tensor]:
    """log q(z | x) minus log of the mean of q(z | x') over the others (Poole et al. 2019).

    log_q: (K, K), as for `club`. Gives value and influence (K,), in nats.
    """
    k = len(log_q)
    others = _off(log_q, -math.inf)
    each = _own(log_q) - others.logsumexp(0) + math.log(k - 1)
    return each.mean(), each - others.softmax(0).sum(1) + 1


def _own(scores: Tensor) -> Tensor:
    return torch.diagonal(scores, dim1=-2, dim2=-1)


def _off(scores: Tensor, fill: float) -> Tensor:
    eye = torch.eye(scores.shape[-1], dtype=torch.bool, device=scores.device)
    return scores.masked_fill(eye, fill)


def _off_mean(scores: Tensor) -> Tensor:
    k = scores.shape[-1]
    return _off(scores, 0).sum((-2, -1)) / (k * (k - 1))


def _both_means(scores: Tensor) -> Tensor:
    """Mean of each sample's row plus that of its column, own pair left out."""
    rest = _off(scores, 0)
    return (rest.sum(0) + rest.sum(1)) / (len(rest) - 1)


def _log_mean_exp(scores: Tensor) -> Tensor:
    k = scores.shape[-1]
    return _off(scores, -math.inf).logsumexp((-2, -1)) - math.log(k * (k - 1))
