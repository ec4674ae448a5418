"""Read a model as a chain of stages that can be inverted one by one.

The model's computation is traced by torch.fx. A stage is a fully connected, convolutional or
pooling layer with what follows it feature by feature (batch normalisation, rectifier, dropout,
flattening), or a residual block: a sum whose two sides begin at one place. The review's section on
MIP-IN (Deng et al., 2021) has fully connected layers, convolutions and max-pooling; mean pooling
and residual blocks are beyond it.
"""

import operator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from milr import taps

KINDS = {
    nn.Linear: "fully connected",
    nn.Conv2d: "convolution",
    nn.MaxPool2d: "max-pool",
    nn.AvgPool2d: "mean-pool",
    nn.AdaptiveAvgPool2d: "mean-pool",
}
BY_FEATURE = (
    nn.ReLU,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.Dropout,
    nn.Dropout2d,
    nn.Flatten,
    nn.Identity,
)
FUNCTIONS = (F.relu, F.relu_, torch.relu, torch.relu_, torch.flatten, F.dropout)
METHODS = ("relu", "relu_", "flatten", "contiguous")
SUMS = (operator.add, operator.iadd, torch.add)
KNOWN = (
    "fully connected layers, 2-d convolutions, max- and mean-pooling, residual sums, rectifiers, "
    "batch normalisation, dropout and flattening"
)


@dataclass(frozen=True, eq=False)
class Stage:
    """A part of the model, from one place where its features are read to the next.

    name:   of the layer that makes it what it is, as in `named_modules()`
    kind:   "fully connected", "convolution", "max-pool", "mean-pool" or "residual"
    key:    of its input among the features that `Reading.features` gives
    gated:  whether its input comes out of a layer, and is no image
    given, inner, made: shapes, without the batch, of its input, and of input and output of `core`
    core:   the layer; None for a residual block, which has the stages of `sides` instead
    pooled: key of the input of a max-pooling itself, which comes after what else is in its stage
    """

    name: str
    kind: str
    key: str
    gated: bool
    given: tuple[int, ...]
    inner: tuple[int, ...]
    made: tuple[int, ...]
    core: nn.Module | None = None
    sides: tuple[tuple["Stage", ...], ...] = ()
    pooled: str = ""


@dataclass(frozen=True, eq=False)
class Reading:
    """A traced model: its stages, the lowest first, and which of its values they need."""

    graph: fx.GraphModule
    stages: tuple[Stage, ...]
    places: dict[str, fx.Node]

    @torch.no_grad()
    def features(self, images: Tensor) -> dict[str, Tensor]:
        """The input of every stage (and max-pooling) by its key, and "prediction", the output.

        images: (B, ...), on the model's device; an input is (B, *given), `given` being its stage's.
        """
        found: dict[str, Tensor] = {}
        wanted: dict[fx.Node, list[str]] = {}
        for key, node in self.places.items():
            wanted.setdefault(node, []).append(key)

        class Reader(fx.Interpreter):
            def run_node(self, node):
                made = super().run_node(node)
                found.update(dict.fromkeys(wanted.get(node, ()), made))
                return made

        Reader(self.graph).run(images)
        return found


def read(model: nn.Module, image: Tensor, down_to: str | None = None) -> Reading:
    """The stages of a model in evaluation mode.

    image: (1, ...), to learn the shapes from; down_to: read only what comes after this layer.
    Raises ValueError for a model that cannot be traced or does not take the image, an unknown
    `down_to`, or, naming it, the first layer (after `down_to`) that cannot be inverted.
    """
    with taps.frozen(model):
        graph = _traced(model)
        image = image.detach().to(taps.device_of(model))
        try:
            graph(image)
        except Exception as error:  # ShapeProp would print it, and say less
            raise ValueError(
                f"the model does not take an image of shape {tuple(image.shape)} ({error}); give "
                "it as the model takes it, the images first"
            ) from error
        ShapeProp(graph).propagate(image)
    *_, output = graph.graph.nodes
    end = output.args[0]
    start = _start(graph, model, down_to)
    _check(graph, start, end)
    parser = _Parser(graph)
    stages = parser.stages(start, end, "")
    if not stages:
        raise ValueError(f"there is no layer to invert after {down_to!r}; name one further down")
    return Reading(graph, stages, parser.places | {"prediction": end})


class _Parser:
    """Turns the chain of nodes between two of them into stages."""

    def __init__(self, graph: fx.GraphModule):
        self.graph, self.places = graph, {}

    def stages(self, start: fx.Node, end: fx.Node, prefix: str) -> tuple[Stage, ...]:
        cores = [node for node in _chain(start, end) if self._is_core(node)]
        found = []
        for index, node in enumerate(cores):
            # What follows the core before feature by feature belongs to it.
            before = start if index == 0 else _before(node)
            found.append(self._stage(node, before, f"{prefix}{index}"))
        return tuple(found)

    def _is_core(self, node: fx.Node) -> bool:
        return _is_sum(node) or type(self._module(node)) in KINDS

    def _module(self, node: fx.Node) -> nn.Module | None:
        return self.graph.get_submodule(node.target) if node.op == "call_module" else None

    def _stage(self, node: fx.Node, before: fx.Node, key: str) -> Stage:
        self.places[key] = before
        shapes = {"given": _shape(before), "made": _shape(node), "key": key}
        shapes["gated"] = before.op != "placeholder"
        if not _is_sum(node):
            core = self._module(node)
            kind, inside = KINDS[type(core)], node.all_input_nodes[0]
            if kind == "max-pool":
                shapes["pooled"] = key if inside is before else f"{key} pooled"
                self.places[shapes["pooled"]] = inside
            return Stage(node.target, kind, core=core, inner=_shape(inside), **shapes)
        a, b = node.args
        sides = tuple(
            self.stages(before, side, f"{key}.{index}.") for index, side in enumerate((a, b))
        )
        name = next((stage.name for side in sides for stage in side), node.name)
        return Stage(name, "residual", inner=_shape(before), sides=sides, **shapes)


def _traced(model: nn.Module) -> fx.GraphModule:
    try:
        graph = fx.Tracer().trace(model)
    except Exception as error:
        raise ValueError(
            f"{type(model).__name__} cannot be traced ({error}); its forward must be the same "
            "for every image, without branches on values"
        ) from error
    return fx.GraphModule(model, graph)


def _start(graph: fx.GraphModule, model: nn.Module, down_to: str | None) -> fx.Node:
    nodes = list(graph.graph.nodes)
    if down_to is None:
        return nodes[0]
    taps.find_layer(model, down_to)
    inside = [
        node
        for node in nodes
        if node.op == "call_module"
        and (node.target == down_to or node.target.startswith(f"{down_to}."))
        or any(name == down_to for name, _ in (node.meta.get("nn_module_stack") or {}).values())
    ]
    if not inside:
        raise ValueError(f"layer {down_to!r} never runs; name one that the model uses")
    return inside[-1]


def _check(graph: fx.GraphModule, start: fx.Node, end: fx.Node) -> None:
    """Refuse the first node between the two, in the order they run, that is none of ours."""
    needed, waiting = set(), [end]
    while waiting:
        node = waiting.pop()
        if node not in needed and node is not start:
            needed.add(node)
            waiting += node.all_input_nodes
    for node in graph.graph.nodes:
        if node in needed and (reason := _strange(graph, node)):
            raise ValueError(f"{reason}; an inverse network is made of {KNOWN}")


def _strange(graph: fx.GraphModule, node: fx.Node) -> str:
    """Why a node cannot be inverted; empty if it can."""
    if node.op == "call_module":
        module = graph.get_submodule(node.target)
        what = f"layer {node.target!r} ({type(module).__name__})"
        if type(module) not in (*KINDS, *BY_FEATURE):
            return f"{what} cannot be inverted"
        if isinstance(module, nn.Conv2d) and isinstance(module.padding, str):
            return f"{what} has padding {module.padding!r}, not a number"
        if isinstance(module, nn.AdaptiveAvgPool2d) and _window(node) is None:
            return f"{what} pools {_shape(node.all_input_nodes[0])[-2:]} into unequal windows"
        return ""
    if node.op == "placeholder":
        return f"{node.target!r} gets around the layer to go down to, as in a residual block"
    if _is_sum(node) and node.kwargs:
        words = ", ".join(node.kwargs)
        return f"step {node.name!r} is a sum with {words}, and only a plain a + b can be inverted"
    one_input = len(node.all_input_nodes) == 1
    known = (node.op == "call_function" and node.target in FUNCTIONS) or (
        node.op == "call_method" and node.target in METHODS
    )
    if (known and one_input) or (_is_sum(node) and len(node.all_input_nodes) == 2):
        return ""
    return f"step {node.name!r} ({getattr(node.target, '__name__', node.target)}) can't be inverted"


def _window(node: fx.Node) -> tuple[int, int] | None:
    """Size of the windows of an adaptive pooling, if they are all equal."""
    given, made = _shape(node.all_input_nodes[0])[-2:], _shape(node)[-2:]
    if any(a % b for a, b in zip(given, made, strict=True)):
        return None
    return given[0] // made[0], given[1] // made[1]


def _chain(start: fx.Node, end: fx.Node) -> list[fx.Node]:
    """The nodes after `start` up to `end`, a sum standing for all that it adds up."""
    found, node = [], end
    while node is not start:
        found.append(node)
        node = _before(node)
    return found[::-1]


def _before(node: fx.Node) -> fx.Node:
    """Where a node's input comes from; for a sum, where its two sides begin."""
    if not _is_sum(node):
        return node.all_input_nodes[0]
    if "begins" not in node.meta:
        # Whichever of the two runs later goes back a step, until they meet.
        a, b = node.args
        while a is not b:
            a, b = (_before(a), b) if b < a else (a, _before(b))
        node.meta["begins"] = a
    return node.meta["begins"]


def _is_sum(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target in SUMS


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["tensor_meta"].shape[1:])
