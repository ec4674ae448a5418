"""Small classifiers for small pictures: a perceptron of three layers, and a little VGG."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from milr import cache
from milr.data.images import ImageSet, augment, content_digest

_DATA = Path(__file__).parent.parent / "data"
SOURCES = (Path(__file__), _DATA / "images.py", _DATA / "digits.py")
FIRST = 16  # images: what `prepare` makes of them tells it from another one


def perceptron(
    shape: Sequence[int], classes: int, widths: Sequence[int] = (256, 128)
) -> nn.Sequential:
    """Fully connected layers with rectifiers between them; three with the default widths.

    shape: of an image, (C, H, W)
    """
    sizes = [int(torch.tensor(shape).prod()), *widths]
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], classes))


def little_vgg(
    shape: Sequence[int],
    classes: int,
    blocks: Sequence[Sequence[int]] = ((16,), (32,), (64, 64), (96, 96)),
) -> nn.Sequential:
    """As VGG is built (Simonyan and Zisserman, 2014), with fewer layers, and batch normalisation.

    blocks: the widths of 3 x 3 convolutions between one max-pooling and the next. The layers are
    numbered, as in torchvision's `features`.
    """
    channels, height, width = shape
    layers: list[nn.Module] = []
    for block in blocks:
        for made in block:
            layers += [nn.Conv2d(channels, made, 3, padding=1), nn.BatchNorm2d(made), nn.ReLU()]
            channels = made
        layers.append(nn.MaxPool2d(2))
        height, width = height // 2, width // 2
    layers += [nn.Flatten(), nn.Linear(channels * height * width, 256), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(256, classes))


def learn(
    network: nn.Module,
    images: ImageSet,
    prepare: Callable[[Tensor], Tensor],
    *,
    steps: int,
    batch: int = 64,
    learning_rate: float = 2e-3,
    varied: bool = False,
    seed: int = 0,
    device: str = "cpu",
) -> nn.Module:
    """The network with the weights that cross-entropy on these images gives it, from the cache.

    prepare: from uint8 images to what the network takes, e.g. `milr.data.images.normalise`
    varied:  whether every step sees new views of its images (`milr.data.images.augment`)

    By AdamW, whose rate falls to 0 along a cosine. The weights that the network comes with don't
    count, they are drawn from the seed. The network is in evaluation mode, on the CPU. It is found
    again if it prints the same, the sources of its modules' classes are the same, and `prepare`
    makes the same of the first images.

    Raises ValueError for a module that cannot start anew (it has parameters or buffers of its own
    and no `reset_parameters`), or whose class is in no file.
    """
    sources = (*SOURCES, *_written_in(network))
    _check_starts(network)
    settings = {"steps": steps, "batch": batch, "rate": learning_rate, "varied": varied}
    config = settings | {"network": str(network), "seed": seed, "device": device}
    data = content_digest(images.key, prepare(images.images[:FIRST]))

    def make() -> dict[str, Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            _start_anew(network)
            _train(network.to(device), images, prepare, settings, seed)
        return {name: value.cpu() for name, value in network.state_dict().items()}

    state = cache.cached("small", config, make, sources=sources, data=data)
    network.load_state_dict(state)
    return network.eval().cpu()


def _written_in(network: nn.Module) -> list[Path]:
    """The files of the modules' classes and of all that these are made from.

    But for those of Python, and of torch, whose version counts.
    """
    files = set()
    kinds = {kind for module in network.modules() for kind in type(module).__mro__}
    for kind in kinds:
        if kind.__module__.split(".")[0] not in ("builtins", "torch", "torchvision"):
            file = getattr(sys.modules.get(kind.__module__), "__file__", None)
            if file is None:
                raise ValueError(
                    f"{kind.__name__} is defined in no file, so that a change of it could not be "
                    "told; write it in a module and import it"
                )
            files.add(Path(file))
    return sorted(files)


def _check_starts(network: nn.Module) -> None:
    for name, module in network.named_modules():
        own = (*module.parameters(recurse=False), *module.buffers(recurse=False))
        if own and not hasattr(module, "reset_parameters"):
            raise ValueError(
                f"module {name!r} ({type(module).__name__}) has parameters or buffers of its own "
                "and no reset_parameters to start them anew; give it one, or train it elsewhere"
            )


def _start_anew(network: nn.Module) -> None:
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()


def _train(network: nn.Module, images: ImageSet, prepare, settings: dict, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    device = next(network.parameters()).device
    optimizer = torch.optim.AdamW(network.parameters(), settings["rate"], weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings["steps"])
    network.train()
    for _ in range(settings["steps"]):
        rows = torch.randint(len(images), (settings["batch"],), generator=generator)
        views = images.images[rows]
        if settings["varied"]:
            views = augment(views, generator)
        outputs = network(prepare(views).to(device))
        loss = functional.cross_entropy(outputs, images.targets[rows].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
