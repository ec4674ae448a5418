"""MI-LR as section 3.4.2 of its paper prints it, kept because of what goes wrong with it.

x' = alpha * x takes the place of x, and the price of x' is the divergence of a Gaussian
p_theta(z | x') from q = N(0, I) (equation 8, which names no family; these are the usual ones). The
head that gives this Gaussian is learned with all the rest, by the same objective. Nothing ties it
to z: it can agree with q whatever x' says, so that the price bounds nothing and falls to 0 while
alpha stays anywhere.
"""

from collections.abc import Callable, Iterable, Mapping

import torch
from lightning_fabric.utilities import move_data_to_device
from torch import Tensor, nn

from milr import doors, taps
from milr.bottleneck import MaskNetwork
from milr.distributed import make_fabric
from milr.feeding import Stream, images_of


class Literal(nn.Module):
    """Mask and head.

    moments: mean and standard deviation per channel, (C,) each, under "local", "z" and, for each
    layer of evidence, "evidence 0" and so on: what both standardise by (`moments_of`).
    """

    def __init__(
        self, moments: Mapping[str, tuple[Tensor, Tensor]], hidden: int = 128, seed: int = 0
    ):
        super().__init__()
        for name, pair in moments.items():
            # They go where the module goes, and are told apart from what it learns.
            for what, value in zip(("mean", "std"), pair, strict=True):
                self.register_buffer(f"{name} {what}", value, persistent=False)
        self._names = tuple(moments)
        widths = {name: len(mean) for name, (mean, _) in moments.items()}
        channels, width = widths.pop("local"), widths.pop("z")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.mask = MaskNetwork(list(widths.values()), channels)
            self.head = nn.Sequential(
                nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, 2 * width)
            )
        self.to(moments["z"][0].device)

    @property
    def moments(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Mean and standard deviation of each name, where the module is."""
        buffers = dict(self.named_buffers())
        return {name: (buffers[f"{name} mean"], buffers[f"{name} std"]) for name in self._names}

    def alpha(self, features) -> Tensor:
        """The paper's mask, (B, N, C): 1 keeps all, 0 nothing."""
        named = enumerate(features.evidence)
        evidence = [self._standard(f"evidence {i}", output) for i, output in named]
        return self.mask(evidence, features.shape)

    def gaussian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of p_theta(z | x'), (..., D) each, of x' (..., C)."""
        return self.head(self._standard("local", x)).chunk(2, dim=-1)

    def standard_z(self, z: Tensor) -> Tensor:
        """(B, D) with mean 0 and deviation 1 per number: the z that the head tells of."""
        return self._standard("z", z)

    def _standard(self, name: str, x: Tensor) -> Tensor:
        shape = (-1, 1, 1) if x.dim() == 4 else (-1,)
        mean, std = self.moments[name]
        return (x - mean.view(shape)) / std.view(shape)


@torch.enable_grad()
def fit(
    explainer,
    batches: Iterable,
    objective: Callable[[Tensor, object], Tensor],
    *,
    beta: float = 0.1,
    steps: int = 150,
    learning_rate: float = 3e-3,
    locations: int = 64,
    precision: str = "32-true",
    seed: int = 0,
) -> tuple[Literal, dict[str, list[float]]]:
    """Minimise objective + beta * divergence over mask and head together.

    explainer: a `MILR`, fitted or not, which reads the model; batches, objective(outputs, batch):
    as for `MILR.fit`. The divergence is that of the average location, in nats; a step takes it at
    `locations` of them, drawn at random.
    precision: of the model's passes, as `milr.distributed.make_fabric` takes it.
    History, a number a step: "loss" (the objective), "divergence", "alpha" (its mean), and "tied",
    mean log p_theta(z | x') - log q(z) in nats: what the head knows of z, above 0 if anything.
    Raises ValueError for too few batches or no step.
    """
    doors.whole(1, steps=steps)
    generator = explainer.generator(f"literal {seed}")
    history: dict[str, list[float]] = {"loss": [], "divergence": [], "alpha": [], "tied": []}
    module = None
    with explainer.frozen_model() as device:
        fabric = make_fabric(device.type, precision=precision)
        stream = Stream(batches, f"{steps} for its steps")
        for _ in range(steps):
            batch = move_data_to_device(next(stream), device)
            images = images_of(batch, device)
            with fabric.autocast():
                features = explainer.features(images)
            if module is None:
                module = Literal(moments_of(features), seed=seed)
                optimizer = torch.optim.Adam(module.parameters(), lr=learning_rate)
            alpha = module.alpha(features)
            passed = alpha * features.local
            with fabric.autocast():
                outputs = explainer.run_with(images, passed)
            loss = objective(outputs.float(), batch)
            some = torch.randperm(passed.shape[1], generator=generator)[:locations]
            mean, log_variance = module.gaussian(passed[:, some.to(device)])
            price = divergence(mean, log_variance).mean()
            optimizer.zero_grad(set_to_none=True)
            (loss + beta * price).backward()
            optimizer.step()
            tied = log_ratio(module.standard_z(features.z)[:, None], mean, log_variance).mean()
            found = {"loss": loss, "divergence": price, "alpha": alpha.mean(), "tied": tied}
            for name, value in found.items():
                history[name].append(float(value.detach()))
    return module, history


def through(explainer, module: Literal, images: Tensor, batch_size: int = 64) -> Tensor:
    """The model's outputs on the CPU for images (B, ...) whose local features alpha multiplies."""
    outputs = []
    with explainer.frozen_model() as device, torch.no_grad():
        module.to(device)
        for chunk in images.split(batch_size):
            features = explainer.features(chunk.to(device))
            passed = module.alpha(features) * features.local
            outputs.append(explainer.run_with(chunk.to(device), passed).cpu())
    return torch.cat(outputs)


def shares(explainer, module: Literal, images: Tensor, batch_size: int = 64) -> Tensor:
    """`alpha` of images (B, ...), for all locations and channels: (B, N, C) on the CPU."""
    found = []
    with explainer.frozen_model() as device, torch.no_grad():
        module.to(device)
        for chunk in images.split(batch_size):
            found.append(module.alpha(explainer.features(chunk.to(device))).cpu())
    return torch.cat(found)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL of N(mean, exp(log_variance)) from N(0, I) in nats, summed over the last dimension."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(-1)


def log_ratio(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log N(z; mean, exp(log_variance)) - log N(z; 0, I) in nats, summed over the last dimension.

    Its mean over pairs of x' and z that belong together equals I(x'; z) + KL(p(z) | q) less the
    head's own error, so that a head which knows nothing and a q that fits leave it at 0 or below.
    """
    return 0.5 * (z**2 - (z - mean) ** 2 / log_variance.exp() - log_variance).sum(-1)


def moments_of(features) -> dict[str, tuple[Tensor, Tensor]]:
    """The moments of a batch's features, as `Literal` takes them.

    features: as `MILR.features` gives them. Name -> mean and standard deviation, (C,) each, or (D,)
    of z.
    """
    columns = [taps.as_locations(output, "evidence") for output in features.evidence]
    return {
        "local": _moments(features.local),
        "z": _moments(features.z),
        **{f"evidence {i}": _moments(column) for i, column in enumerate(columns)},
    }


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation per channel; channels that are dead in this batch must not blow up."""
    variance, mean = torch.var_mean(x.flatten(0, -2), dim=0, correction=0)
    std = variance.sqrt()
    return mean, std.clamp(min=max(1e-6, 0.01 * float(std.mean())))
