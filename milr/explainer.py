"""MILR: the modules of section 3.4 around a model that stays as it is.

Three things are inserted and learn: a mask network that closes the bottleneck wherever the decision
can spare it, and a critic each for the total and for the decision-related information. `fitting`
holds how they learn; this file, how a model is read and explained with them.
"""

import math
import pickle
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
from lightning_fabric.utilities import move_data_to_device
from torch import Tensor

from milr import doors, feeding, fitting, readings, taps
from milr.files import replace_file
from milr.infonce import CRITICS
from milr.inserted import Inserted, from_state
from milr.maps import BITS, Maps, concatenate
from milr.refining import refined_keep
from milr.weights import Weights, digest

# What reading a file says that `save` did not write, or that is damaged.
_DAMAGE = (AttributeError, EOFError, KeyError, RuntimeError, TypeError, pickle.UnpicklingError)

FORMAT = 4


class Features(NamedTuple):
    """What one clean pass of the model shows of B images."""

    local: Tensor  # (B, N, C)
    z: Tensor  # (B, D)
    evidence: tuple[Tensor, ...]  # as the layers give it
    shape: tuple[int, ...]  # of the locations: (H, W) for maps, (N,) for tokens


class NotFitted(RuntimeError):
    """An explainer was asked before `fit` or `load`."""


class MILR:
    """Splits what a representation knows about each location of its input into three kinds.

    model: any module in evaluation mode. local: name of the layer whose outputs, maps (B, C, H, W)
    or tokens (B, N, C), are the locations. representation: name of the layer whose flattened output
    is z. evidence: names of the layers that the mask network sees (default: the local layer alone,
    for which the redundant information cannot be negative in truth).
    beta: price of a nat through the bottleneck, per element, against the objective. critic:
    "linear", "two-layer" or "concatenated". members: how many critics of each kind; their bounds
    are averaged, which steadies the maps. masks: how many mask networks, averaged as well; each
    learns from its share of each batch, drawn anew in each step, so that two want more steps.
    seed: of the inserted modules and the noise.
    device: where to work ("cpu", "cuda", "mps"); by default where the model is.
    Raises ValueError for an unknown layer or setting.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        local: str,
        representation: str,
        evidence: Sequence[str] = (),
        *,
        beta: float = 1.0,
        critic: str = "two-layer",
        members: int = 4,
        masks: int = 1,
        seed: int = 0,
        device: str | None = None,
    ):
        if isinstance(evidence, str) or not isinstance(evidence or (), Iterable):
            raise ValueError(
                f"evidence is {evidence!r}; give the names in a tuple: ({str(evidence)!r},)"
            )
        self.model = model
        self.local, self.representation = local, representation
        self.evidence = tuple(evidence or (local,))
        doors.layers(model, local, representation, *self.evidence)
        doors.positive("0.1 keeps much, 10 little", beta=beta)
        if critic not in tuple(CRITICS):  # a list has no hash
            raise ValueError(f"critic is {critic!r}; it must be one of {', '.join(CRITICS)}")
        doors.whole(1, members=members, masks=masks)
        doors.seed(seed)
        if device is not None:
            doors.device(device)
        self.beta, self.seed, self.device = float(beta), int(seed), device
        # NumPy's whole numbers could be saved, and not be loaded.
        self.critic, self.members, self.masks = critic, int(members), int(masks)
        self.history: dict[str, list[float]] = {}
        self._inserted: Inserted | None = None
        # Those that were fitted to; of no matter to one made by `around`.
        self._weights: Weights | None = None
        # Of the model that was fitted to, also of one made by `around`.
        self._digest: str | None = None

    def fit(self, batches, objective: Callable, **settings) -> "MILR":
        """Let the inserted modules learn; the model stays bit for bit as it is.

        batches: yields what the objective needs; a tensor of images, a tuple or list whose first
        item is that, or a mapping with "images". It is gone through again and again if it can be (a
        list, a data loader). objective(outputs, batch): the model's own loss, a scalar to minimise,
        of its outputs with the bottleneck in place; the batch is on the device where the explainer
        works. For settings, and for what is raised, see `milr.fitting.fit`.
        """
        self._inserted, self.history = fitting.fit(self, batches, objective, **settings)
        taps.move(self._inserted, taps.device_of(self.model))
        self._weights = Weights(self.model)
        self._digest = self._weights.digest
        return self

    def explain(
        self,
        images: Tensor,
        draws: int = 4,
        batch_size: int = 64,
        reading: str = "pointwise",
        keep: Tensor | None = None,
    ) -> Maps:
        """Maps of images (B, ...): total, decision, redundant and capacity, in bits, on the CPU.

        images: from where those of `fit` came, and others than these, which may be their own
        negatives and then read up to 1 bit too little.
        reading: of total and decision. "pointwise": how much the location speaks for the image's
        own z, signed; "surprise": how far it moves the belief about z, never negative, and for the
        decision away from what a closed bottleneck leaves believed (`milr.readings`).
        draws: how many draws of the noise the decision map averages over, in pairs of opposites: of
        a critic that is linear in the features, the noise cancels almost wholly. An image's maps do
        not depend on the images beside it.
        keep: the mask to read behind, (B, N, C) between 0 and 1 (of `refine_keep`, say), instead of
        the inferred one.
        Raises NotFitted before `fit`, ValueError for an unknown reading, no draws, NaN features,
        another shape than at `fit`, a mask of another shape or beyond 0 and 1, or a model whose
        weights have changed since (a change to single numbers through `.data` may go unseen).
        """
        inserted = self._fitted()
        readings.check(reading)
        doors.whole(1, draws=draws, batch_size=batch_size)
        doors.images(images)
        with self._working(inserted) as device, torch.no_grad():
            noise = self._opposites(draws, inserted, device)
            if keep is not None:
                doors.mask(keep, (len(images), *noise.shape[1:]))
            found = []
            for rows in torch.arange(len(images)).split(batch_size):
                features = self.features(images[rows].to(device))
                mask = self.keep_of(features, inserted)
                if keep is not None:
                    mask = keep[rows].to(mask)
                with torch.autocast(device.type, enabled=False):
                    found.append(self._explain(features, mask, inserted, noise, reading))
        return concatenate(found)

    def total(self, images: Tensor, batch_size: int = 64, reading: str = "pointwise") -> Tensor:
        """The total map of `explain` alone, (B, H, W) or (B, N), in bits, on the CPU.

        For less, as nothing is read behind the mask; and all that there is to ask of modules fitted
        with `steps=0`, whose mask has learned nothing. Raises as `explain` does.
        """
        inserted = self._fitted()
        readings.check(reading)
        doors.whole(1, batch_size=batch_size)
        doors.images(images)
        found = []
        with self._working(inserted) as device, torch.no_grad():
            for chunk in images.split(batch_size):
                features = self.features(chunk.to(device))
                _check_locations(features, inserted)
                with torch.autocast(device.type, enabled=False):
                    values = _total(features, inserted, reading)
                found.append((BITS * values).reshape(len(chunk), *features.shape).cpu())
        return torch.cat(found)

    @property
    def shut(self) -> bool:
        """Whether the bottleneck lets next to nothing through: then decision and capacity say
        nothing (`milr.fitting.SHUT`). Raises NotFitted before `fit`.
        """
        self._fitted()
        return fitting.is_shut(self.history)

    @property
    def offset(self) -> tuple[float, float]:
        """Where in its cell of the image a location looks, down and across (`milr.taps.offset`).

        Raises NotFitted before `fit`.
        """
        return tuple(self._fitted().offset.tolist())

    def refine(
        self,
        batch,
        objective: Callable,
        *,
        steps: int = 10,
        draws: int = 4,
        learning_rate: float = 0.3,
        reading: str = "pointwise",
    ) -> Maps:
        """Maps of one batch whose labels or episode are known, with a mask of its own.

        batch, objective: as for `fit`; an episode's images belong in one batch. The mask starts
        from the one that `explain` takes, and makes a few steps on the objective plus beta times
        the capacity; what was fitted stays as it is. Unlike there, an image's maps depend on the
        images beside it if the objective does. reading: as for `explain`.
        Raises as `explain` does, and ValueError for a loss that is not finite or has no gradient,
        and for a local layer under activation checkpointing.
        """
        readings.check(reading)
        how = {"steps": steps, "draws": draws, "learning_rate": learning_rate}
        keep = self.refine_keep(batch, objective, **how)
        images = feeding.images_of(batch, "cpu")
        return self.explain(images, draws, len(images), reading, keep)

    def refine_keep(
        self,
        batch,
        objective: Callable,
        *,
        steps: int = 10,
        draws: int = 4,
        learning_rate: float = 0.3,
    ) -> Tensor:
        """The mask that `refine` reads behind, (B, N, C), on the CPU; arguments as there.

        Raises as `refine` does.
        """
        inserted = self._fitted()
        doors.objective(objective)
        doors.whole(1, draws=draws)
        doors.whole(0, steps=steps)
        doors.positive("such as 0.3", learning_rate=learning_rate)
        doors.learning(self.model)
        with self._working(inserted) as device, torch.enable_grad():
            batch = move_data_to_device(batch, device)
            images = feeding.images_of(batch, device)
            features = self.features(images)
            settings = (steps, draws, learning_rate)
            keep = refined_keep(self, features, inserted, batch, images, objective, *settings)
            return keep.cpu()

    def through(self, images: Tensor, draw: int = 0, batch_size: int = 64) -> Tensor:
        """The model's outputs (B, ...), on the CPU, when only what the bottleneck passes goes on.

        images: (B, ...); draw: which draw of the noise, of which each place in the order of the
        images has its own. Raises as `explain` does, and ValueError for a model whose output is no
        tensor.
        """
        inserted = self._fitted()
        doors.whole(1, batch_size=batch_size)
        doors.images(images)
        generator = self.generator(f"through {draw}")
        outputs = []
        with self._working(inserted) as device, torch.no_grad():
            for chunk in images.split(batch_size):
                features = self.features(chunk.to(device))
                keep = self.keep_of(features, inserted)
                # One after another: of all at once, a draw would depend on how many these are.
                each = [draw_noise(one.shape, generator, device) for one in features.local]
                passed = inserted.inject(features.local, keep, torch.stack(each))
                output = self.run_with(chunk.to(device), passed)
                doors.tensor(output)
                outputs.append(output.cpu())
        return torch.cat(outputs)

    def keep(self, images: Tensor, batch_size: int = 64) -> Tensor:
        """The share of each channel that the bottleneck keeps, (B, N, C), on the CPU.

        Raises as `explain` does.
        """
        inserted = self._fitted()
        doors.whole(1, batch_size=batch_size)
        doors.images(images)
        with self._working(inserted) as device, torch.no_grad():
            chunks = (self.features(chunk.to(device)) for chunk in images.split(batch_size))
            return torch.cat([self.keep_of(chunk, inserted).cpu() for chunk in chunks])

    def save(self, path: str | Path) -> None:
        """Write all that was learned to a file, whole or not at all; the model itself is not in it.

        It is for the weights that the modules were fitted to, also if the model has others by now
        or is another one (`around`).
        Raises NotFitted before `fit`, OSError if the disk refuses it.
        """
        whole = self.state() | {"beta": self.beta, "seed": self.seed, "model": self._digest}
        replace_file(Path(path), lambda file: torch.save(whole, file))

    def load(self, path: str | Path) -> "MILR":
        """Take up what `save` wrote, with its beta and its seed, for the same model and layers.

        Raises ValueError if the file is of other layers or settings, of a model with other weights,
        or not one that `save` wrote, and OSError if it can't be read.
        """
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
            made_for, beta, seed = (found.pop(name) for name in ("model", "beta", "seed"))
        except _DAMAGE as error:
            raise ValueError(
                f"{path} is damaged, or not a file that MILR.save wrote ({error}); save it anew"
            ) from error
        if made_for != digest(self.model):
            raise ValueError(
                f"the modules in {path} were fitted to a model with other weights, and their maps "
                "would mean nothing for this one; load those weights first, or fit anew"
            )
        self.load_state(found)
        self.beta, self.seed = beta, seed
        return self

    def state(self) -> dict:
        """What was learned, as tensors (on the CPU), numbers and strings alone.

        On the CPU the tensors are the explainer's own, and no copies: clone what is to be changed.
        Raises NotFitted before `fit`.
        """
        inserted = self._fitted()
        return {
            "made with": self._signature(),
            "locations": list(inserted.locations),
            "history": _copied(self.history),
            "inserted": {name: value.cpu() for name, value in inserted.state_dict().items()},
        }

    def load_state(self, state: dict) -> "MILR":
        """Take up what `state` gave, as fitted to the model's present weights.

        Raises ValueError for other layers or settings, and for what `state` did not give.
        """
        if missing := {"made with", "locations", "history", "inserted"} - set(state):
            raise ValueError(
                f"there is no {', '.join(sorted(missing))} in what was given, so `state` did not "
                "give it; fit anew"
            )
        if state["made with"] != self._signature():
            raise ValueError(
                f"these modules were fitted with {state['made with']}, this explainer has "
                f"{self._signature()}; make it with the same layers, critic, members, masks and "
                "format"
            )
        bad = [name for name, value in state["inserted"].items() if not value.isfinite().all()]
        if bad:
            raise ValueError(f"NaN or infinite numbers in {', '.join(bad)}; save them anew, or fit")
        with torch.inference_mode(False):
            # Copies, or what was loaded under inference mode could never be refined.
            state = state | {"inserted": {k: v.clone() for k, v in state["inserted"].items()}}
            try:
                found = from_state(state["inserted"], state["locations"], self.critic)
            except (KeyError, RuntimeError) as error:
                raise ValueError(
                    f"what was given is not all that `state` gives ({error}); save it anew, or fit"
                ) from error
        self._inserted = found
        self.history = _copied(state["history"])
        self._weights = Weights(self.model)
        self._digest = self._weights.digest
        return self

    def around(self, model: torch.nn.Module, beta: float | None = None) -> "MILR":
        """The same fitted modules, shared and not copied, around another model of these layers.

        It works where that model is. beta: of later refining; this explainer's if None. Raises
        NotFitted before `fit`, ValueError for a model without these layers; one whose layers are
        of other widths is refused as soon as it is explained.
        """
        settings = {name: getattr(self, name) for name in ("critic", "members", "masks", "seed")}
        layers = self.local, self.representation, self.evidence
        made = MILR(model, *layers, beta=self.beta if beta is None else beta, **settings)
        made._inserted, made.history, made._digest = self._fitted(), self.history, self._digest
        return made

    def features(self, images: Tensor) -> Features:
        """One clean pass of images (B, ...).

        Raises ValueError for no images, for features that are not finite or not as many as the
        images, for local ones that are neither maps nor tokens, and for evidence that can't be
        brought to their locations; RuntimeError as `milr.taps.read`.
        """
        doors.images(images)
        names = (self.local, self.representation, *self.evidence)
        with taps.read(self.model, names) as outputs, torch.no_grad(), doors.noted(images):
            self.model(images.clone())  # a model may prepare its images in place
        found = {name: output.float() for name, output in outputs.items()}
        for name, output in found.items():
            if len(output) != len(images):
                raise ValueError(
                    f"layer {name!r} gives {tuple(output.shape)} for {len(images)} images; the "
                    "first dimension must be the images: maps (B, C, H, W) or tokens (B, N, C)"
                )
            if not output.isfinite().all():
                raise ValueError(
                    f"layer {name!r} gives NaN or infinite features; check the images "
                    "(are they normalised floats?) and the model's weights"
                )
        local = taps.as_locations(found[self.local], self.local)
        shape = found[self.local].shape[2:] if found[self.local].dim() == 4 else local.shape[1:2]
        evidence = tuple(_checked(found[name], shape, name) for name in self.evidence)
        z = found[self.representation].reshape(len(images), -1)
        return Features(local, z, evidence, tuple(shape))

    def keep_of(self, features: Features, inserted: Inserted) -> Tensor:
        """The mask of features, (B, N, C).

        Raises ValueError for other locations or widths than at `fit`.
        """
        _check_locations(features, inserted)
        return inserted.keep(features.evidence)

    def run_with(self, images: Tensor, local: Tensor) -> Tensor:
        """The model's outputs for images (B, ...) with its local features replaced by (B, N, C)."""

        def instead(output: Tensor) -> Tensor:
            # A copy: what later layers do in place must not reach `local`.
            return taps.laid_out(taps.as_features(local, output), output)

        with taps.replace(self.model, self.local, instead):
            return self.model(images.clone())

    def generator(self, purpose: str) -> torch.Generator:
        """Random numbers of this explainer for one purpose, always the same ones."""
        return torch.Generator().manual_seed(zlib.crc32(f"{self.seed} {purpose}".encode()))

    def _opposites(self, draws: int, inserted: Inserted, device: torch.device) -> Tensor:
        """Noise in pairs of opposites, one for all images: none depends on its neighbours."""
        shape = (-(-draws // 2), math.prod(inserted.locations), len(inserted._mean("local")))
        noise = draw_noise(shape, self.generator("explain"), device)
        return torch.cat([noise, -noise])[:draws]

    def _explain(
        self, features: Features, keep: Tensor, inserted: Inserted, noise: Tensor, reading: str
    ) -> Maps:
        passed = torch.stack([inserted.inject(features.local, keep, one) for one in noise])
        total = _total(features, inserted, reading)
        if reading == "pointwise":
            decision = readings.pointwise(inserted, "decision", passed, features.z)
            compared = inserted.total_bank.shape[1] + 1
        else:
            closed = torch.zeros_like(keep[:1])
            one_image = features.local[:1]
            silent = torch.stack([inserted.inject(one_image, closed, one) for one in noise])
            decision = readings.surprise(inserted, "decision", passed, silent)
            compared = inserted.total_seen.shape[1]
        capacity = inserted.capacity(features.local, keep).sum(-1)
        shape = (len(keep), *features.shape)
        maps = [(BITS * values).reshape(shape).cpu() for values in (total, decision, capacity)]
        return Maps(*maps, ceiling=BITS * math.log(compared), offset=self.offset)

    def _fitted(self) -> Inserted:
        if self._inserted is None:
            raise NotFitted(
                "this explainer has learned nothing yet; call fit(batches, objective) or load(path)"
            )
        return self._inserted

    @contextmanager
    def _working(self, inserted: Inserted):
        """Model (frozen) and inserted modules on the working device.

        Raises ValueError if the model has other weights than those that were fitted to.
        """
        if self._weights:
            self._weights.check(self.model)
        with self.frozen_model() as device:
            home = taps.device_of(inserted)
            taps.move(inserted, device)
            try:
                yield device
            finally:
                # As the model: many explainers, of large grids, fill a GPU with what they keep.
                taps.move(inserted, home)

    @contextmanager
    def frozen_model(self):
        """The model on the working device, without gradients; afterwards as it was.

        A context that gives the device. Raises ValueError as `milr.taps.frozen`.
        """
        device = torch.device(self.device) if self.device else taps.device_of(self.model)
        moving = self._weights.moving(self.model) if self._weights else nullcontext()
        with moving, taps.frozen(self.model, device):
            yield device

    def _signature(self) -> list:
        return [
            FORMAT,
            self.local,
            self.representation,
            list(self.evidence),
            self.critic,
            self.members,
            self.masks,
        ]


def _copied(history: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: list(values) for name, values in history.items()}


def _total(features: Features, inserted: Inserted, reading: str) -> Tensor:
    """(B, N), in nats."""
    local = features.local[None]
    if reading == "pointwise":
        return readings.pointwise(inserted, "total", local, features.z)
    return readings.surprise(inserted, "total", local)


def _check_locations(features: Features, inserted: Inserted) -> None:
    if features.shape != inserted.locations:
        raise ValueError(
            f"the local features have locations {features.shape}, but had {inserted.locations} "
            "before; give images of one size"
        )
    width = len(inserted._mean("z"))
    if features.z.shape[1] != width:
        raise ValueError(
            f"the representation has {features.z.shape[1]} numbers, but had {width} before; give "
            "images of one size"
        )
    maps = {"local": features.local}
    maps |= {f"evidence {i}": output for i, output in enumerate(features.evidence)}
    for name, output in maps.items():
        found, width = taps.as_locations(output, name).shape[2], len(inserted._mean(name))
        if found != width:
            raise ValueError(
                f"the {name} features have {found} channels, but had {width} before; give a model "
                "whose layers are as wide as those that were fitted to"
            )


def draw_noise(shape, generator: torch.Generator, device: torch.device) -> Tensor:
    """Standard normal numbers of this shape, the same on every kind of device.

    They are drawn on the CPU, and brought to the device.
    """
    # float32 also where that is not torch's default.
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32).to(device)


def _checked(output: Tensor, shape: Sequence[int], name: str) -> Tensor:
    """Evidence that can be brought to the locations: any maps for maps, else as many tokens."""
    columns = taps.as_locations(output, name).shape[1]
    if (output.dim() == 4) != (len(shape) == 2) or (output.dim() == 3 and columns != shape[0]):
        raise ValueError(
            f"evidence layer {name!r} gives shape {tuple(output.shape)}, which cannot be brought "
            f"to the locations {tuple(shape)}; name layers with maps for maps, or with the same "
            "tokens for tokens"
        )
    return output
