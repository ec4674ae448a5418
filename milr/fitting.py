"""How the inserted modules learn: moments, then the mask, then a critic for each information.

Equation 10 of the paper in two parts, since x and the clean z of its InfoNCE do not depend on the
mask. First the mask minimises the model's own loss plus beta times the capacity: equation 7 with
its sign turned, with the bound of a known channel (`bottleneck.capacity`) for that of equation 8,
and the mean over elements for the sum over locations. Then each critic maximises its own bound
(`infonce`), on x for the total (section 3.4.1) and on x' for the decision (section 3.4.3).

The loops run on Lightning Fabric. With several processes each gets its own share of every batch;
moments, InfoNCE's negatives and the bank are gathered, so that the result is that of one process
with the whole batch.
"""

import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral
from typing import NamedTuple

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities import move_data_to_device
from torch import Tensor, nn
from tqdm.auto import tqdm

from milr import doors, feeding, taps
from milr.distributed import PRECISIONS, gather, make_fabric, rank, world_size
from milr.infonce import critic_bound
from milr.inserted import KEPT, Inserted
from milr.readings import log_normaliser

# Below so many nats per location the bottleneck has shut: experience says it never opens again.
SHUT = 0.05
LAST = 5
# Of the bank, to estimate the bounds on it with an error; each is a batch of InfoNCE.
GROUPS = 4
# That the critics see of a batch: neighbours tell them much the same, so all would only be slower.
LOCATIONS = 128


def fit(
    explainer,
    batches,
    objective: Callable,
    *,
    steps: int = 200,
    critic_steps: int = 400,
    critic_batches: int = 120,
    hidden: float = 0.0,
    moment_batches: int = 10,
    bank: int = 128,
    learning_rate: float = 3e-3,
    ramp: float = 0.5,
    progress: bool = True,
    fabric=None,
) -> tuple[Inserted, dict]:
    """Fit what a `MILR` inserts; returns it with the history of the fit.

    steps, critic_steps: optimiser steps of the mask and of the critics, a batch each; the critics
    go through `critic_batches` batches again and again, whose features are held in memory, and in
    each step `hidden` of z's dimensions are hidden from them, so that they cannot memorise. ramp:
    share of the steps over which beta rises from 0 (else a high beta shuts everything for good).
    bank: how many further samples are kept as negatives of later explanations, all of one pass
    through the batches. fabric: a launched Lightning Fabric for other precision, devices or
    processes; each process then feeds its own share of the batches.
    History: "loss", "nats" (mean capacity per location) and "keep" for every step of the mask (of
    several mask networks the mean over batches that each masks a share of, where explanations have
    their mean, which lets no more through);
    "total" and "decision", bounds in nats, for every step of the critics; under "held out ..."
    their value and standard error on the bank: further batches, in which images that the batches
    before had may come again.
    Warns if the bottleneck has shut (`MILR.shut` says so later), if the batches hold fewer images
    than the bank, which keeps each once, if the local layer's channels seem to come last, and if z
    is so wide that critics of it fill the memory.
    Raises ValueError for a batch of one, NaN features, shapes that change between batches, too few
    batches, no step of the critics, no batch for them or the moments, nothing left of z to see, a
    bank that is too small for an error of the bounds, an objective without a gradient, a local
    layer under activation checkpointing, a fabric for another device or of another precision than
    the inserted modules can learn in, or a loss that is no longer finite.
    """
    counts = {"critic_steps": critic_steps, "critic_batches": critic_batches}
    doors.whole(1, **counts, moment_batches=moment_batches)
    doors.whole(0, steps=steps)
    doors.positive("such as 3e-3", learning_rate=learning_rate)
    doors.share("ramp", ramp)
    _check_hidden_and_bank(hidden, bank)
    doors.batches(batches)
    if steps:
        doors.objective(objective)
    doors.learning(explainer.model)
    stream = feeding.Stream(
        batches,
        f"{moment_batches} for the moments, {steps} for the mask, {critic_batches} for the "
        f"critics, and as many as hold the {bank} images of the bank",
    )
    with torch.enable_grad(), explainer.frozen_model() as device:
        fabric = fabric or make_fabric(str(device))
        if fabric.device.type != device.type:
            raise ValueError(
                f"the fabric works on {fabric.device}, the explainer on {device}; make both for "
                "one device"
            )
        _check_precision(fabric)
        inserted = _insert(explainer, stream, moment_batches, device)
        noise = _Noise(explainer)
        training = _Training(fabric, learning_rate, progress)
        history = _fit_mask(explainer, inserted, stream, noise, objective, training, steps, ramp)
        history |= _fit_critics(
            explainer, inserted, stream, noise, training, critic_steps, critic_batches, hidden
        )
        inserted.requires_grad_(False).eval()
        history |= _fill_bank(explainer, inserted, stream, noise, training, bank)
    return inserted, history


def _check_precision(fabric: Fabric) -> None:
    precision, allowed = fabric.strategy.precision.precision, (*PRECISIONS, "16-mixed")
    if precision not in allowed:
        raise ValueError(
            f"the fabric's precision is {precision}; the inserted modules learn in float32, so "
            f"give one of {', '.join(allowed)}"
        )


def _check_hidden_and_bank(hidden: float, bank: int) -> None:
    if not 0 <= doors.number(hidden) < 1:
        raise ValueError(
            f"hidden is {hidden!r}; give a share of z from 0 to below 1: of what is hidden wholly "
            "the critics learn nothing"
        )
    if not isinstance(bank, Integral) or bank < 2 * GROUPS:
        raise ValueError(
            f"bank is {bank!r}; give at least {2 * GROUPS}, a whole number: their bounds are taken "
            f"on {GROUPS} parts of it, and InfoNCE needs two samples or more"
        )


def _insert(explainer, stream, count: int, device) -> Inserted:
    """Fresh modules, with the moments of the first batches."""
    moments = defaultdict(_Moments)
    locations = None
    for _ in range(count):
        images = feeding.images_of(next(stream), device)
        features = _features(explainer, images, locations)
        if locations is None:
            feeding.check_layout(explainer, images, features)
        locations = features.shape
        moments["local"].add(features.local)
        moments["z"].add(features.z)
        for i, output in enumerate(features.evidence):
            moments[f"evidence {i}"].add(taps.as_locations(output, "evidence"))
    found = {name: moment.result() for name, moment in moments.items()}
    settings = explainer.critic, explainer.members, explainer.masks, explainer.seed
    inserted = Inserted(found, locations, *settings).to(device)
    inserted.offset.copy_(torch.tensor(taps.offset(explainer.model, explainer.local, images)))
    return inserted


def _features(explainer, images: Tensor, locations: tuple[int, ...] | None, least: int = 2):
    """Of one clean pass; locations: those of the batches before, if there were any."""
    features = explainer.features(images)
    if len(features.z) * world_size() < least:
        raise ValueError(
            "a batch of one image; InfoNCE needs at least two, for its negatives (a data loader "
            "leaves out a last one with drop_last=True)"
        )
    if locations not in (None, features.shape):
        raise ValueError(
            f"the locations change between batches ({locations}, then {features.shape}); resize "
            "the images to one size"
        )
    return features


def _fit_mask(explainer, inserted, stream, noise, objective, training, steps, ramp) -> dict:
    mask, optimizer, schedule = training.set_up(inserted.mask, steps)
    history = {"loss": [], "nats": [], "keep": []}
    for step in training.bar(steps, "mask", history, "nats"):
        batch = move_data_to_device(next(stream), training.fabric.device)
        images = feeding.images_of(batch, training.fabric.device)
        with training.fabric.autocast():
            features = _features(explainer, images, inserted.locations)
        turn = noise.turn(len(images), len(inserted.mask))
        keep = mask(inserted.standard_evidence(features.evidence), inserted.locations, turn)
        passed = inserted.inject(features.local, keep, noise(features.local))
        with training.fabric.autocast():
            outputs = explainer.run_with(images, passed)
        loss = feeding.differentiable(objective(outputs, batch))
        if step == 0:
            others = feeding.others_than(list(inserted.mask.parameters()), loss)
        price = inserted.capacity(features.local, keep)
        beta = explainer.beta * min(1.0, (step + 1) / max(1.0, ramp * steps))
        # A head that the objective brings along is not to learn, nor to be left with a gradient.
        only = {"inputs": list(mask.parameters())} if others else {}
        training.descend(mask, optimizer, schedule, loss + beta * price.mean(), **only)
        _note(history, loss=loss, nats=price.sum(-1).mean(), keep=keep.mean())
    if is_shut(history):
        warnings.warn(
            f"the bottleneck has shut (it lets {history['nats'][-1]:.2g} nats per location "
            f"through); lower beta (now {explainer.beta:g}) or raise ramp (now {ramp:g})",
            stacklevel=4,
        )
    return history


def is_shut(history: Mapping[str, list[float]]) -> bool:
    """Whether next to nothing came through over the last steps of the mask (`SHUT`)."""
    last = history["nats"][-LAST:]
    return bool(last) and sum(last) / len(last) < SHUT


def _fit_critics(explainer, inserted, stream, noise, training, steps, count, hidden) -> dict:
    bounds = _Bounds(inserted.total, inserted.decision)
    wrapped, optimizer, schedule = training.set_up(bounds, steps)
    history = {"total": [], "decision": []}
    samples = []
    for _ in range(count):
        images = feeding.images_of(next(stream), training.fabric.device)
        samples.append(_some_locations(_sample(explainer, inserted, images, training), noise))
    for step in training.bar(steps, "critics", history, "total"):
        # Each member sees other batches and other parts of z, so that their errors differ.
        turns = [step + member * count // inserted.members for member in range(inserted.members)]
        batches = [_standardised(inserted, samples[turn % count], noise) for turn in turns]
        batches = [(x, passed, noise.hide(z, hidden)) for x, passed, z in batches]
        total, decision = wrapped(batches)
        training.descend(wrapped, optimizer, schedule, -(total + decision))
        _note(history, total=total, decision=decision)
    return history


@torch.no_grad()
def _fill_bank(explainer, inserted, stream, noise, training, size) -> dict:
    """What is kept of the batches after those that the critics learned from, and their bounds."""
    found: list[tuple] = []
    before = stream.count
    while sum(len(z) for *_, z in found) < size:
        images = feeding.images_of(next(stream), training.fabric.device)
        if stream.in_another_pass(before):
            if before % stream.length == 0:
                break  # a whole pass, which holds all images that there are
            # Anew from where a pass begins: of two, shuffled ones, an image may be in both.
            found, before = [], stream.count - 1
        sample = _sample(explainer, inserted, images, training, least=1)
        found.append(tuple(gather(part) for part in _standardised(inserted, sample, noise)))
    local, passed, z = (torch.cat(parts)[:size] for parts in zip(*found, strict=True))
    _check_bank(len(z), size)
    with torch.autocast(z.device.type, enabled=False):
        return _keep(inserted, "total", local, z) | _keep(inserted, "decision", passed, z)


def _keep(inserted, name: str, x: Tensor, z: Tensor) -> dict:
    """Fills the bank of one information; its bounds on it, with their error."""
    critics = getattr(inserted, name)
    banks, seen = zip(*(c.embed(x, z) for c in critics), strict=True)
    each = zip(critics, banks, seen, strict=True)
    normalisers = [log_normaliser(c, bank, v) for c, bank, v in each]
    for kept, values in zip(KEPT, (banks, seen, normalisers), strict=True):
        setattr(inserted, f"{name}_{kept}", torch.stack(values))
    groups = zip(x.tensor_split(GROUPS), z.tensor_split(GROUPS), strict=True)
    bounds = [[critic_bound(c, *c.embed(a, b)) for c in critics] for a, b in groups]
    values = torch.tensor(bounds).mean(1)
    error = values.std() / math.sqrt(len(values))
    return {f"held out {name}": [float(values.mean()), float(error)]}


def _check_bank(count: int, size: int) -> None:
    """Warns of a bank of fewer images than were asked for. Raises ValueError for too few."""
    said = (
        f"the batches hold {count} images, the bank {size}; give more images, or "
        f"bank={max(2 * GROUPS, count)}"
    )
    if count < 2 * GROUPS:
        raise ValueError(f"{said}: its bounds are taken on {GROUPS} parts of two images or more")
    if count < size:
        warnings.warn(f"{said}; each is a negative once, so the ceiling is lower", stacklevel=5)


@torch.no_grad()
def _sample(explainer, inserted, images, training, least: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Local features, mask and representation of a batch of images, of so many at least."""
    with training.fabric.autocast():
        features = _features(explainer, images, inserted.locations, least)
    return features.local, explainer.keep_of(features, inserted), features.z


def _some_locations(sample: tuple[Tensor, Tensor, Tensor], noise) -> tuple[Tensor, Tensor, Tensor]:
    """A sample at `LOCATIONS` of its locations, drawn at random: so many samples fit in memory."""
    local, keep, z = sample
    places = noise.places(local.shape[1])
    return local[:, places], keep[:, places], z


@torch.no_grad()
def _standardised(inserted, sample, noise) -> tuple[Tensor, Tensor, Tensor]:
    """Local features, a draw of what the bottleneck passes of them, and z, all standardised."""
    local, keep, z = sample
    standard = inserted.standard_local
    passed = inserted.inject(local, keep, noise(local))
    return standard(local), standard(passed), inserted.standard_z(z)


class _Moments:
    """Mean and deviation per channel over batches, and over all processes."""

    def __init__(self):
        self.batches: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, x: Tensor) -> None:
        variance, mean = torch.var_mean(x.flatten(0, -2), dim=0, correction=0)
        count = torch.tensor([float(len(x))], dtype=torch.float32, device=x.device)
        # In double precision on the CPU alone: not every device has it.
        parts = (mean, variance, count)
        self.batches.append(tuple(gather(one[None]).cpu().double() for one in parts))

    def result(self) -> tuple[Tensor, Tensor]:
        means, variances, counts = (torch.cat(parts) for parts in zip(*self.batches, strict=True))
        weights = counts / counts.mean()  # 1 each for batches of one size
        mean = (weights * means).mean(0)
        between = (weights * (means - mean).square()).mean(0)
        std = ((weights * variances).mean(0) + between).sqrt()
        # Channels that are dead in these batches must not blow up in the next.
        return mean.float(), std.clamp(min=max(1e-6, 0.01 * float(std.mean()))).float()


class _Bounds(nn.Module):
    """Both critics' bounds over the samples of all processes, as the forward that Fabric wraps."""

    def __init__(self, total: nn.ModuleList, decision: nn.ModuleList):
        super().__init__()
        self.total, self.decision = total, decision

    def forward(self, batches: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Mean bounds of the members, each on a batch of its own, in full precision."""
        with torch.autocast(batches[0][0].device.type, enabled=False):
            whole = [[part.float() for part in batch] for batch in batches]
            members = zip(self.total, self.decision, whole, strict=True)
            bounds = [(_bound(t, x, z), _bound(d, passed, z)) for t, d, (x, passed, z) in members]
            total, decision = zip(*bounds, strict=True)
            return torch.stack(total).mean(), torch.stack(decision).mean()


def _bound(critic: nn.Module, x: Tensor, z: Tensor) -> Tensor:
    """A critic's bound over these samples and those of the other processes."""
    u, v = critic.embed(x, z)
    return critic_bound(critic, gather(u), gather(v))


class _Noise:
    """Noise for the whole batch of all processes, of which each takes its part."""

    def __init__(self, explainer):
        self.generator = explainer.generator("fit")

    def __call__(self, like: Tensor) -> Tensor:
        """Standard normal numbers."""
        return self._share(torch.randn, like)

    def hide(self, z: Tensor, share: float) -> Tensor:
        """z without a share of its numbers, drawn at random, at the same mean size."""
        seen = self._share(torch.rand, z) >= share
        return z * seen / (1 - share)

    def turn(self, count: int, masks: int) -> int:
        """Which mask network has the first of this process's so many images.

        At random, or one would always have the same images of batches that come again.
        """
        first = int(torch.randint(masks, (1,), generator=self.generator))
        return first + rank() * count

    def places(self, count: int) -> Tensor:
        """At most `LOCATIONS` of so many locations, the same in all processes."""
        return torch.randperm(count, generator=self.generator)[:LOCATIONS]

    def _share(self, draw: Callable, like: Tensor) -> Tensor:
        count = len(like)
        shape = world_size() * count, *like.shape[1:]
        whole = draw(shape, generator=self.generator, dtype=torch.float32)
        return whole[rank() * count :][:count].to(like.device)


class _Training(NamedTuple):
    """What the two loops share."""

    fabric: Fabric
    learning_rate: float
    progress: bool

    def set_up(self, module: nn.Module, steps: int):
        """The module and its optimiser under Fabric, and a rate that falls in the second half."""
        optimizer = torch.optim.Adam(module.parameters(), lr=self.learning_rate)

        def factor(step: int) -> float:
            late = max(0.0, 2 * step / max(1, steps) - 1)
            return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * late))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return *self.fabric.setup(module, optimizer), schedule

    def descend(self, module, optimizer, schedule, loss: Tensor, **how) -> None:
        if not loss.isfinite():
            raise ValueError(
                f"the loss became {loss.item()}; check the images and labels of the batch, "
                "or lower learning_rate"
            )
        optimizer.zero_grad(set_to_none=True)
        # Not in an autocast of the caller's: what was computed in full comes back in full.
        with torch.autocast(loss.device.type, enabled=False), feeding.computed_once():
            self.fabric.backward(loss, **how)
        self.fabric.clip_gradients(module, optimizer, max_norm=5.0)
        optimizer.step()
        schedule.step()

    def bar(self, steps: int, name: str, history: dict, shown: str) -> Iterator[int]:
        hidden = not (self.progress and self.fabric.is_global_zero)
        with tqdm(range(steps), desc=f"fit the {name}", disable=hidden, mininterval=0.5) as bar:
            for step in bar:
                yield step
                bar.set_postfix({shown: f"{history[shown][-1]:.3g}"}, refresh=False)


def _note(history: dict, **values: Tensor) -> None:
    for name, value in values.items():
        history[name].append(float(value.detach()))
