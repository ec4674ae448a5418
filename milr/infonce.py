"""InfoNCE between the local features of a sample and its representation.

`K` samples in a batch, `N` locations in a sample; `scores[m, n, j] = f(x_n^m, z^j)` is the critic's
value for location `n` of sample `m` beside the representation of sample `j`, shape (K, N, K).
Everything is in nats. Source: equations 2 and 3 of the paper, with the corrections that the chapter
on the bounds derives.
"""

import math

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

FORMS = ("location", "paper", "pooled")
# Scores are made in blocks of this many numbers (4 MiB), which a core's caches hold.
BLOCK = 2**20
# So many numbers (64 MiB) go through a hidden layer at once.
LARGE = 2**24


def pointwise(scores: Tensor) -> Tensor:
    """Pointwise information of each location about its own sample's representation.

    scores: (K, N, K). Returns (K, N) in nats: entry [j, n] is `f(x_n^j, z^j)` minus the logarithm
    of the mean of `exp f(x_n^m, z^j)` over the K samples m, the own one included. Each entry is at
    most log K and may be negative; adding any function of z alone to the critic changes nothing.
    The mean over samples is a lower bound on I(x_n; z) for every location n (in expectation, and
    for a critic that has not seen the samples). Raises ValueError for another shape, or fewer than
    two samples.
    """
    k = _check_scores(scores)
    own = torch.diagonal(scores, dim1=0, dim2=2)
    return (own - scores.logsumexp(0) + math.log(k)).T


def lower_bound(scores: Tensor, form: str = "location") -> Tensor:
    """A lower bound on the information of the average location, in nats (a scalar).

    scores: (K, N, K).
    form: "location": negatives are the same location of the K samples; at most min(log K, mean_n
    I(x_n; z)). "paper": equation 3, all N K local features stand in the denominator; never above
    "location". "pooled": the other samples' locations together, as in Deep InfoMax, with weight 1/K
    for the sample's own local feature, which keeps it a bound.
    Raises ValueError for another form, another shape, or fewer than two samples.
    """
    k = _check_scores(scores)
    n = scores.shape[1]
    if form == "location":
        return pointwise(scores).mean()
    own = torch.diagonal(scores, dim1=0, dim2=2)  # (N, K): location, sample
    if form == "paper":
        return (own - scores.logsumexp((0, 1)) + math.log(n * k)).mean()
    if form == "pooled":
        others = scores.masked_fill(_eye(k, scores.device), -math.inf).logsumexp((0, 1))
        return (own - torch.logaddexp(own, others - math.log(n)) + math.log(k)).mean()
    raise ValueError(f"form is {form!r}; it must be one of {', '.join(FORMS)}")


class SeparableCritic(nn.Module):
    """f(x, z) = g(x) . h(z) / sqrt(width), with one or two layers on each side (section 3.4.1).

    local, representation: number of channels of x and of z. hidden: None for linear maps, else the
    width of the hidden layer of both.
    """

    def __init__(self, local: int, representation: int, width: int = 64, hidden: int | None = None):
        super().__init__()
        self.width = width
        self.local = _layers(local, width, hidden)
        self.representation = _layers(representation, width, hidden)

    def embed(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """(K, N, C) and (K, D) to (K, N, width) and (K, width), whose products are the scores."""
        return _in_blocks(self.local, x), self.representation(z) / math.sqrt(self.width)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Scores (M, N, K) of local features (M, N, C) beside representations (K, D)."""
        u, v = self.embed(x, z)
        return self.score(u, v)

    def score(self, u: Tensor, v: Tensor) -> Tensor:
        """Scores (M, N, K) of embedded local features (M, N, width) and z (K, width)."""
        return u @ v.T

    def own(self, u: Tensor, v: Tensor) -> Tensor:
        """Scores (K, N) of each sample's locations (K, N, width) beside its own z (K, width)."""
        return (u * v[:, None]).sum(-1)


class ConcatenatedCritic(nn.Module):
    """f(x, z) = w . relu(A x + B z), a two-layer network on the pair: costlier, more flexible.

    local, representation: number of channels of x and of z; hidden: width of the first layer.
    """

    def __init__(self, local: int, representation: int, hidden: int = 64):
        super().__init__()
        self.width = hidden
        self.local = nn.Linear(local, hidden)
        self.representation = nn.Linear(representation, hidden)
        self.last = nn.Linear(hidden, 1, bias=False)  # a constant would cancel in InfoNCE

    def embed(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """What of the first layer belongs to each side: (K, N, hidden) and (K, hidden)."""
        return self.local(x), self.representation(z)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Scores (M, N, K) of local features (M, N, C) beside representations (K, D)."""
        u, v = self.embed(x, z)
        return self.score(u, v)

    def score(self, u: Tensor, v: Tensor) -> Tensor:
        """Scores (M, N, K) of embedded local features (M, N, hidden) and z (K, hidden)."""
        return self.last((u[:, :, None] + v).relu()).squeeze(-1)

    def own(self, u: Tensor, v: Tensor) -> Tensor:
        """Scores (K, N) of each sample's locations (K, N, hidden) beside its own z (K, hidden)."""
        return self.last((u + v[:, None]).relu()).squeeze(-1)


CRITICS = {
    "linear": lambda local, representation, width: SeparableCritic(local, representation, width),
    "two-layer": lambda local, representation, width: SeparableCritic(
        local, representation, width, hidden=2 * width
    ),
    "concatenated": ConcatenatedCritic,
}


def make_critic(kind: str, local: int, representation: int, width: int = 64) -> nn.Module:
    """A critic by name: "linear", "two-layer" (both separable) or "concatenated".

    local, representation: number of channels of x and of z. width: of what the two sides are
    embedded in; the hidden layers of "two-layer" have twice that. Raises ValueError for another
    name.
    """
    if kind not in CRITICS:
        raise ValueError(f"critic is {kind!r}; it must be one of {', '.join(CRITICS)}")
    return CRITICS[kind](local, representation, width)


def critic_bound(critic: nn.Module, u: Tensor, v: Tensor, form: str = "location") -> Tensor:
    """`lower_bound` of a critic's scores without ever holding all of them.

    u, v: what `critic.embed` made of K samples, (K, N, width) and (K, width); gradients flow to
    both and to the critic. A separable critic in the "location" form costs its three matrix
    products and little else; elsewhere blocks of locations are scored again on the way back.
    Raises ValueError for fewer than two samples, which leave no negatives, for u and v of different
    numbers, and for another form.
    """
    if len(u) < 2 or len(u) != len(v):
        raise ValueError(
            f"{len(u)} samples of local features and {len(v)} representations; InfoNCE needs at "
            "least two of each, and the same number, for the others are its negatives"
        )
    if form == "location" and isinstance(critic, SeparableCritic):
        return _SeparableLocationBound.apply(u, v)
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; it must be one of {', '.join(FORMS)}")
    if form == "location":
        parts = [_on_way_back(_sum_of_pointwise, critic, b, v) for b in _blocks(critic, u, len(v))]
        return torch.stack(parts).sum() / (u.shape[0] * u.shape[1])
    return _coupled_bound(critic, u, v, form)


def pointwise_against(critic: nn.Module, u: Tensor, v: Tensor, bank: Tensor) -> Tensor:
    """Pointwise information with a fixed bank of other samples as negatives.

    u, v: embedded samples (B, N, width) and (B, width); bank: embedded local features of M samples
    that are none of these, (M, N, width). Returns (B, N) in nats, at most log(M + 1): what
    `pointwise` gives for one sample among the bank, so that one sample needs no batch beside it.
    """
    negatives = [critic.score(block, v).logsumexp(0).T for block in _blocks(critic, bank, len(v))]
    own = critic.own(u, v)
    return own - torch.logaddexp(own, torch.cat(negatives, dim=1)) + math.log(len(bank) + 1)


def _coupled_bound(critic: nn.Module, u: Tensor, v: Tensor, form: str) -> Tensor:
    """The two forms whose denominator runs over all locations."""
    k, n = u.shape[:2]
    skip_own = form == "pooled"
    total = torch.full((k,), -math.inf, device=u.device, dtype=u.dtype)
    for block in _blocks(critic, u, k):
        part = _on_way_back(_sum_of_exponentials, critic, block, v, skip_own)
        total = torch.logaddexp(total, part)
    own = critic.own(u, v)
    if skip_own:
        return (own - torch.logaddexp(own, total[:, None] - math.log(n)) + math.log(k)).mean()
    return (own - total[:, None] + math.log(n * k)).mean()


def _sum_of_pointwise(critic: nn.Module, u: Tensor, v: Tensor) -> Tensor:
    return pointwise(critic.score(u, v)).sum()


def _sum_of_exponentials(critic: nn.Module, u: Tensor, v: Tensor, skip_own: bool) -> Tensor:
    scores = critic.score(u, v)
    if skip_own:
        scores = scores.masked_fill(_eye(len(v), v.device), -math.inf)
    return scores.logsumexp((0, 1))


def _on_way_back(function, *arguments) -> Tensor:
    return checkpoint(function, *arguments, use_reentrant=False)


class _SeparableLocationBound(torch.autograd.Function):
    """The mean of u . v minus log-mean-exp over samples, with its gradient made on the way.

    The gradient of each block is at hand while its scores are, so that they are computed once and
    overwritten in place: the memory is one block and the gradient itself.
    """

    @staticmethod
    def forward(ctx, u: Tensor, v: Tensor) -> Tensor:
        k, n = u.shape[:2]
        wanted = any(ctx.needs_input_grad)
        grad_u, grad_v = (torch.empty_like(u), torch.zeros_like(v)) if wanted else (None, None)
        value = u.new_zeros((), dtype=torch.float64 if u.device.type == "cpu" else None)
        for start, stop in _ranges(n, max(1, BLOCK // (k * k))):
            block = u[:, start:stop].reshape(-1, u.shape[2])
            scores = (block @ v.T).view(k, stop - start, k)
            own = torch.diagonal(scores, dim1=0, dim2=2)
            value += own.sum()
            top = scores.amax(0)
            sums = scores.sub_(top).exp_().sum(0)
            value -= (top + sums.log()).sum()
            if wanted:
                share = scores.div_(sums).neg_()
                torch.diagonal(share, dim1=0, dim2=2).add_(1)
                share = share.view(-1, k)
                grad_u[:, start:stop] = (share @ v).view(k, stop - start, -1)
                grad_v.addmm_(share.T, block)
        ctx.save_for_backward(*((grad_u, grad_v) if wanted else ()))
        ctx.count = k * n
        return (value / (k * n) + math.log(k)).to(u.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        grad_u, grad_v = ctx.saved_tensors
        return grad_u * (grad / ctx.count), grad_v * (grad / ctx.count)


def _blocks(critic: nn.Module, u: Tensor, columns: int) -> list[Tensor]:
    """Parts of the locations small enough that a block's scores stay within BLOCK numbers.

    Split and not sliced: on the way back each slice would make an array as large as u of its own.
    """
    width = critic.width if isinstance(critic, ConcatenatedCritic) else 1
    step = max(1, BLOCK // (len(u) * columns * width))
    return list(u.split(step, dim=1))


def _ranges(n: int, step: int) -> list[tuple[int, int]]:
    return [(start, min(start + step, n)) for start in range(0, n, step)]


def _in_blocks(layers: nn.Module, x: Tensor) -> Tensor:
    """layers(x) of (K, N, C), where a hidden layer of much data is made anew on the way back."""
    if isinstance(layers, nn.Linear) or x.numel() <= LARGE:
        return layers(x)
    step = max(1, LARGE // (x.numel() // x.shape[1]))
    parts = (x[:, start:stop] for start, stop in _ranges(x.shape[1], step))
    return torch.cat([_on_way_back(layers, part) for part in parts], dim=1)


def _layers(inputs: int, outputs: int, hidden: int | None) -> nn.Module:
    if hidden is None:
        return nn.Linear(inputs, outputs)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def _eye(k: int, device: torch.device) -> Tensor:
    """(K, 1, K), true where a score belongs to a sample and its own representation."""
    return torch.eye(k, dtype=torch.bool, device=device)[:, None]


def _check_scores(scores: Tensor) -> int:
    if scores.dim() != 3 or scores.shape[0] != scores.shape[2]:
        raise ValueError(
            f"scores have shape {tuple(scores.shape)}; they must be (K, N, K): "
            "samples of x, locations, samples of z"
        )
    if len(scores) < 2:
        raise ValueError("scores of one sample; InfoNCE needs at least two, for its negatives")
    return len(scores)
