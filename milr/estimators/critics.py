"""Methods that read a critic's scores."""

import math
from functools import partial

import torch
from torch import Tensor, nn

from milr.estimators import bounds
from milr.estimators.residual import DeepCritic, ResidualCritic
from milr.estimators.training import Settings, train
from milr.infonce import BLOCK, make_critic

# More scores than this are not held at once: longer parts are read in groups of one size.
MOST_SCORES = 2**24
WIDTH = 64
DEEP = {"three-layer": DeepCritic, "residual": ResidualCritic}
BEST = ("three-layer", "residual")

READ = {
    "infonce": bounds.infonce,
    "infonce-paper": partial(bounds.infonce, form="paper"),
    "infonce-pooled": partial(bounds.infonce, form="pooled"),
    "mine": bounds.donsker_varadhan,
    "nwj": bounds.nwj,
    "jsd": bounds.plug_in,
    "smile": partial(bounds.donsker_varadhan, clip=bounds.CLIP),
}


def fit(views: dict[str, tuple], trained: str, critic: str, settings: Settings) -> tuple:
    """One critic for each pair, and the traces; critic "best": of each kind, by validation.

    views: train, validation and held-out `Parts`, under "plain" and, with the columns of
    `residual.with_normal`, under "normal"; trained: the loss, as `bounds.objective` names it. The
    validation part chose among the kinds as it chose the step; the value is read on samples that
    took part in neither.
    """
    kinds = BEST if critic == "best" else (critic,)
    if "normal" not in views:
        kinds = tuple(dict.fromkeys(kind.replace("residual", "three-layer") for kind in kinds))
    found = [_fit_kind(views[view_of(kind)][:2], trained, kind, settings) for kind in kinds]
    chosen = []
    for candidates in zip(*(zip(*one, strict=True) for one in found), strict=True):
        seconds = sum(trace["seconds"] for _, trace in candidates)
        network, trace = max(candidates, key=lambda one: one[1]["best"])
        chosen.append((network, {**trace, "seconds": seconds}))
    return tuple(zip(*chosen, strict=True))


def view_of(kind: str) -> str:
    """Which of the views of `fit` a kind of critic sees: "normal" for "residual", else "plain"."""
    return "normal" if kind == "residual" else "plain"


@torch.no_grad()
def read(critic: nn.Module, x: Tensor, z: Tensor, method: str, negatives: int | None) -> tuple:
    """Value, standard error, values of the locations and number of samples, in nats.

    x, z: (n, N, C) and (n, D), held out. negatives: how many samples stand together, each the
    others' negative; None for as few groups of one size as memory allows. Samples that don't fill
    a group are left out: with None fewer than there are groups. Of the locations there are N
    values, or None where N is 1.
    """
    most = negatives or math.isqrt(MOST_SCORES // x.shape[1])
    size = min(most, len(x)) if negatives else len(x) // math.ceil(len(x) / most)
    groups = range(0, len(x) - size + 1, size)
    scores = READ[method]
    found = [scores(score(critic, x[i : i + size], z[i : i + size], method)) for i in groups]
    influence = torch.cat([one[1] for one in found])
    error = float(influence.std()) / math.sqrt(len(influence))
    value = float(torch.stack([one[0] for one in found]).mean())
    locations = torch.stack([one[2] for one in found]).mean(0).tolist() if x.shape[1] > 1 else None
    return value, error, locations, len(influence)


def score(critic: nn.Module, x: Tensor, z: Tensor, method: str) -> Tensor:
    """Scores of all pairs, (K, N, K) for the InfoNCE forms, else (K, K), made block by block.

    x, z: (K, N, C) and (K, D), N being 1 for all methods but the InfoNCE forms.
    """
    u, v = critic.embed(x, z)
    step = max(1, BLOCK // (u.shape[1] * len(v) * critic.width))
    scores = torch.cat([critic.score(block, v) for block in u.split(step)])
    return scores if method.startswith("infonce") else scores.squeeze(1)


def _fit_kind(parts, trained: str, kind: str, settings: Settings) -> tuple:
    training = parts[0]

    def make() -> nn.Module:
        local, representation = training.x.shape[-1], training.z.shape[-1]
        if kind in DEEP:
            return DEEP[kind](local, representation, WIDTH)
        return make_critic(kind, local, representation, WIDTH)

    def quality(critic: nn.Module, x: Tensor, z: Tensor) -> float:
        size = min(len(x), max(2, math.isqrt(MOST_SCORES // (8 * x.shape[1]))))
        scores = score(critic, x[:size], z[:size], "infonce")
        with torch.no_grad():
            return -float(bounds.objective(trained)(scores[None]))

    loss = bounds.objective(trained)
    networks, traces = train(make, loss, quality, parts, settings, f"{trained} {kind}")
    return networks, [{**trace, "critic": kind} for trace in traces]
