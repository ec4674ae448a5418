"""Train an inverse network, layer by layer from the prediction down, on reconstruction alone.

min ||X_l - g_{l+1}(S_{l+1})||^2 for every layer l: the review's section on MIP-IN (Deng et al.,
2021).
"""

import math
import time
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from milr import doors
from milr.peers.mip_in.layers import Gate, indicator
from milr.peers.mip_in.network import InverseNetwork, features_of


class Fitted(NamedTuple):
    """How a layer's training went: its name, the loss of each step, and seconds."""

    name: str
    losses: list[float]
    seconds: float


@torch.enable_grad()
def fit(
    network: InverseNetwork,
    model: nn.Module,
    images: Tensor,
    gate: Gate = indicator,
    *,
    steps: int = 300,
    batch: int = 64,
    learning_rate: float = 0.1,
    seed: int = 0,
) -> list[Fitted]:
    """Fit the layers, the top one first, to images (n, ...) as the model takes them.

    Layer l learns to make X_l, the features before its stage, of the signal after it: the mean of
    ||X_l - g(S_{l+1})||^2 by Adam, whose rate is `learning_rate` by the root of the
    number of values that a layer adds up, and falls to 0 along a cosine. Then it makes the signals
    that the next layer learns from, through the gate: with `indicator` those of the local signal,
    with `open_gate` those of the global one. The model stays as it is.
    Raises ValueError for fewer than two images, no step, an empty batch, or a model with other
    stages than the network was made for, and FloatingPointError if a loss is not finite.
    """
    if len(images) < 2:
        raise ValueError(f"{len(images)} image to learn from; give two or more, better hundreds")
    doors.whole(1, steps=steps, batch=batch)
    doors.positive("such as 0.1", learning_rate=learning_rate)
    features = features_of(network, model, images)
    signal = network.prediction(features["prediction"])
    generator = torch.Generator().manual_seed(seed)
    network.requires_grad_(True)
    try:
        found = []
        for layer in reversed(network.layers):
            began = time.perf_counter()
            losses = []
            learnable = any(True for _ in layer.parameters())
            optimizer = torch.optim.Adam(_groups(layer, learning_rate)) if learnable else None
            for step in range(steps if learnable else 0):
                rows = torch.randint(len(images), (batch,), generator=generator)
                some = {key: value[rows] for key, value in features.items()}
                loss = F.mse_loss(layer(signal[rows], some, gate), some[layer.stage.key])
                if not torch.isfinite(loss):
                    raise FloatingPointError(
                        f"the loss of layer {layer.stage.name!r} became {loss.item()}; lower "
                        f"learning_rate (now {learning_rate}), or mend images that are not finite"
                    )
                for group in optimizer.param_groups:
                    group["lr"] = group["highest"] * _share(step, steps)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(float(loss.detach()))
            signal = _next(layer, signal, features, gate, batch)
            found.append(Fitted(layer.stage.name, losses, time.perf_counter() - began))
    finally:
        network.requires_grad_(False)
    return found[::-1]


@torch.no_grad()
def explained(
    network: InverseNetwork, model: nn.Module, images: Tensor, gate: Gate = indicator
) -> dict[str, tuple[Tensor, Tensor]]:
    """How much of the features before each stage is reconstructed from the signal after it.

    Returns layer -> what each image (B,) adds to the variance that is explained and to all of it,
    as `statistics.ratio_interval` takes them: their sums' ratio is 1 - error / variance, and 0 for
    the mean over these images. The reconstruction is that of the training, before the gate. Raises
    ValueError for a model with other stages.
    """
    features = features_of(network, model, images)
    signal = network.prediction(features["prediction"])
    found = {}
    for layer in reversed(network.layers):
        wanted = features[layer.stage.key]
        made = layer(signal, features, gate)
        spread = (wanted - wanted.mean(0)).square().flatten(1).sum(1).cpu().double()
        error = (wanted - made).square().flatten(1).sum(1).cpu().double()
        found[layer.stage.name] = (spread - error, spread)
        signal = made * gate(wanted) if layer.stage.gated else made
    return dict(reversed(found.items()))


@torch.no_grad()
def _next(layer: nn.Module, signal: Tensor, features, gate: Gate, batch: int) -> Tensor:
    """The signal before a fitted layer's stage, for all images."""
    made = []
    for start in range(0, len(signal), batch):
        rows = slice(start, start + batch)
        some = {key: value[rows] for key, value in features.items()}
        lower = layer(signal[rows], some, gate)
        made.append(lower * gate(some[layer.stage.key]) if layer.stage.gated else lower)
    return torch.cat(made)


def _groups(layer: nn.Module, learning_rate: float) -> list[dict]:
    """Adam changes every weight alike, so a sum over more of them needs a lower rate."""
    groups = []
    for part in layer.modules():
        own = list(part.parameters(recurse=False))
        if own:
            fan = _summed(part)
            groups.append({"params": own, "highest": learning_rate / math.sqrt(fan)})
    return groups


def _summed(part: nn.Module) -> int:
    """How many weighted values make one of its outputs."""
    if isinstance(part, nn.Linear):
        return part.in_features
    if isinstance(part, nn.ConvTranspose2d):
        return part.in_channels // part.groups * math.prod(part.kernel_size)
    return 1


def _share(step: int, steps: int) -> float:
    return 0.5 + 0.5 * math.cos(math.pi * step / steps)
