"""The bottleneck of Schulz et al., Restricting the Flow, 2020: Per-Sample and Readout.

The same channel as MI-LR's own: noise with the moments of a layer's features takes the place of
what is not kept, at the price of its capacity. Per-Sample looks for the best keep of each image on
its own, for the target that it is given. Readout is a network that learns on training images to
infer the keep, and then knows the image alone. There is no representation in it, and so no total
and nothing redundant: the map is the capacity at each location, in bits.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from lightning_fabric.utilities import move_data_to_device
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur

from milr import bottleneck, doors, taps
from milr.data.images import content_digest
from milr.distributed import make_fabric
from milr.explainer import draw_noise
from milr.feeding import Stream, images_of
from milr.maps import BITS
from milr.peers.peer import Peer
from milr.peers.targets import Target

BETA = 10.0
Moments = tuple[Tensor, Tensor]  # mean and standard deviation per channel, (C,) each


@torch.no_grad()
def moments(model: nn.Module, layer: str, batches: Iterable) -> Moments:
    """Mean and standard deviation (C,) of a layer's channels over normalised images, on the CPU.

    batches: as for `MILR.fit`, of images (B, ...). The authors' code takes them of every single
    feature; they are a channel's here, as in MI-LR, so that the methods differ in nothing but what
    they do with them. Raises ValueError for an unknown layer, a model in training mode, and if
    there are no batches.
    """
    columns = []
    device = taps.device_of(model)
    with taps.frozen(model):
        for batch in batches:
            local = outputs_of(model, images_of(batch, device), (layer,))[0]
            columns.append(taps.as_locations(local, layer).flatten(0, 1).cpu().double())
    if not columns:
        raise ValueError(f"there are no batches for the moments of layer {layer!r}; give some")
    variance, mean = torch.var_mean(torch.cat(columns), dim=0, correction=0)
    std = variance.sqrt()
    # A channel that is dead in these images must not cost infinitely much in the next.
    return mean.float(), std.clamp(min=max(1e-6, 0.01 * float(std.mean()))).float()


def per_sample(layer: str, moments: Moments, **settings) -> Peer:
    """The Per-Sample bottleneck at a layer; settings as for `best_keep`.

    moments: of the layer, (C,) each. Its map is the capacity, (B, h, w) in bits.
    """

    def method(model: nn.Module, images: Tensor, target: Target) -> Tensor:
        local = outputs_of(model, images, (layer,))[0]
        keep = best_keep(model, layer, images, target, moments, **settings)
        return bits(local, keep, moments)

    return Peer("Per-Sample bottleneck", layer, "label", method)


@torch.enable_grad()
def best_keep(
    model: nn.Module,
    layer: str,
    images: Tensor,
    target: Target,
    moments: Moments,
    *,
    beta: float = BETA,
    steps: int = 10,
    draws: int = 10,
    learning_rate: float = 1.0,
    blur: float = 1.0,
    start: float | Tensor = 5.0,
    seed: int = 0,
) -> Tensor:
    """The keep (B, C, h, w) that trades each image's target against its capacity.

    Minimises beta * (mean capacity per feature, nats) - target, the target averaged over draws of
    the noise, by Adam from the logits `start` (a number, or (B, C, h, w) to refine what is known).
    The target should be a log-probability: then this is the paper's cross-entropy. blur: standard
    deviation of the Gaussian that smooths the keep, in locations; 0 for none. All images are
    optimised at once and share the noise, so that no image's keep depends on its neighbours.
    Defaults are those of the code that the paper's authors released (BioroboticsLab/IBA).
    """
    local = outputs_of(model, images, (layer,))[0]
    logits = torch.as_tensor(start, dtype=local.dtype, device=local.device)
    logits = logits.expand(local.shape).clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=learning_rate)
    generator = torch.Generator().manual_seed(seed)
    repeated = target.repeated(draws)
    mean, std = _columns(moments, local)
    for _ in range(steps):
        keep = _smooth(logits.sigmoid(), blur)
        noise = draw_noise((draws, 1, *local.shape[1:]), generator, local.device)
        passed = bottleneck.inject(local, keep, mean, std, noise).flatten(0, 1)
        gained = repeated(_run_with(model, layer, images, passed)).sum() / draws
        price = bottleneck.capacity(local, keep, mean, std).mean((1, 2, 3)).sum()
        (logits.grad,) = torch.autograd.grad(beta * price - gained, logits)
        optimizer.step()
    return _smooth(logits.detach().sigmoid(), blur)


def bits(local: Tensor, keep: Tensor, moments: Moments) -> Tensor:
    """Capacity of the locations, (B, h, w) in bits, of features and keep (B, C, h, w)."""
    mean, std = _columns(moments, local)
    return BITS * bottleneck.capacity(local, keep, mean, std).sum(1)


class Readout(nn.Module):
    """Infers the keep from what several layers say of a location: 1 x 1 convolutions.

    layers: the one with the bottleneck, then those that are read; moments: of each of them.
    """

    def __init__(self, layers: Sequence[str], moments: Sequence[Moments], blur: float, seed: int):
        super().__init__()
        self.layers, self.moments, self.blur = tuple(layers), tuple(moments), blur
        widths = [len(mean) for mean, _ in self.moments]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            # The paper starts at a logit of 5.
            self.mask = bottleneck.MaskNetwork(widths[1:], widths[0], start=0.993)

    def keep(self, outputs: Sequence[Tensor]) -> Tensor:
        """(B, C, h, w) from the layers' outputs on the undisturbed images."""
        local, *evidence = outputs
        standard = []
        for output, pair in zip(evidence, self.moments[1:], strict=True):
            mean, std = _columns(pair, output)
            standard.append((output - mean) / std)
        return _smooth(taps.as_features(self.mask(standard, local.shape[2:]), local), self.blur)


@torch.enable_grad()
def fit_readout(
    model: nn.Module,
    layer: str,
    evidence: Sequence[str],
    batches: Iterable,
    objective: Callable[[Tensor, object], Tensor],
    *,
    beta: float = BETA,
    steps: int = 150,
    learning_rate: float = 3e-3,
    blur: float = 1.0,
    ramp: float = 0.5,
    moment_batches: int = 10,
    precision: str = "32-true",
    seed: int = 0,
) -> tuple[Readout, dict[str, list[float]]]:
    """Fit a Readout bottleneck at a layer; the model stays as it is.

    evidence: names of the layers that are read (maps). batches: as for `MILR.fit`, the first
    `moment_batches` for the moments. objective(outputs, batch): the model's own loss, a scalar to
    minimise, as for `MILR.fit`; to it comes beta times the mean capacity per feature, in nats.
    ramp: share of the steps over which beta rises from 0, as for `MILR.fit`; the paper has none
    (0), and then a beta of 10 soon shuts everything.
    precision: of the model's passes, as `milr.distributed.make_fabric` takes it.
    History: "loss", "nats" (mean capacity per location) and "keep" for every step.
    Raises ValueError for too few batches, no step, or no batch for the moments.
    """
    doors.whole(1, steps=steps, moment_batches=moment_batches)
    stream = Stream(batches, f"{moment_batches} for the moments, {steps} for the mask")
    first = [next(stream) for _ in range(moment_batches)]
    layers = (layer, *evidence)
    device = taps.device_of(model)
    readout = Readout(layers, [moments(model, name, first) for name in layers], blur, seed)
    readout.to(device)
    optimizer = torch.optim.Adam(readout.parameters(), lr=learning_rate)
    generator = torch.Generator().manual_seed(seed)
    fabric = make_fabric(device.type, precision=precision)
    history: dict[str, list[float]] = {"loss": [], "nats": [], "keep": []}
    with taps.frozen(model):
        for step in range(steps):
            batch = move_data_to_device(next(stream), device)
            images = images_of(batch, device)
            with fabric.autocast():
                outputs = [output.float() for output in outputs_of(model, images, layers)]
            local, keep = outputs[0], readout.keep(outputs)
            mean, std = _columns(readout.moments[0], local)
            noise = draw_noise(local.shape, generator, device)
            passed = bottleneck.inject(local, keep, mean, std, noise)
            with fabric.autocast():
                decided = _run_with(model, layer, images, passed)
            loss = objective(decided.float(), batch)
            price = bottleneck.capacity(local, keep, mean, std)
            optimizer.zero_grad(set_to_none=True)
            now = beta * min(1.0, (step + 1) / max(1.0, ramp * steps))
            (loss + now * price.mean()).backward()
            optimizer.step()
            found = {"loss": loss, "nats": price.sum(1).mean(), "keep": keep.mean()}
            for name, value in found.items():
                history[name].append(float(value.detach()))
    return readout.requires_grad_(False), history


def readout_peer(readout: Readout) -> Peer:
    """A fitted Readout bottleneck as a peer: its map is the capacity, (B, h, w) in bits."""

    def method(model: nn.Module, images: Tensor, target: Target) -> Tensor:
        outputs = outputs_of(model, images, readout.layers)
        keep = readout.to(images.device).keep(outputs)
        return bits(outputs[0], keep, readout.moments[0])

    fitted = content_digest(*readout.mask.state_dict().values())
    return Peer("Readout bottleneck", readout.layers[0], "nothing", method, fitted=fitted)


@torch.no_grad()
def outputs_of(model: nn.Module, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
    """Outputs of layers on undisturbed images (B, ...), one for each of the names.

    Each in the shape that it has, (B, C, h, w) of a layer with maps. Raises ValueError for an
    unknown layer, RuntimeError as `milr.taps.read` does.
    """
    with taps.read(model, layers) as outputs:
        model(images)
    return [outputs[name] for name in layers]


def _run_with(model: nn.Module, layer: str, images: Tensor, passed: Tensor) -> Tensor:
    """The outputs when a layer passes on this instead; it may be many draws of each image."""
    with taps.replace(model, layer, lambda output: taps.laid_out(passed, output)):
        return model(images)


def _smooth(keep: Tensor, blur: float) -> Tensor:
    """Blurred over the locations; rounding must not lift it above 1."""
    if blur == 0:
        return keep
    # The border is mirrored, and a grid has no more to mirror than all of its other locations.
    height, width = (2 * min(round(2 * blur), side - 1) + 1 for side in keep.shape[-2:])
    return gaussian_blur(keep, [width, height], [blur, blur]).clamp(0, 1)


def _columns(moments: Moments, like: Tensor) -> Moments:
    """Per channel, to go with maps (..., C, h, w)."""
    mean, std = (moment.to(like.device)[:, None, None] for moment in moments)
    return mean, std
