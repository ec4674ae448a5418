"""Inverse networks that are fitted once, and the methods that MIP-IN's maps are held against."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model

from milr import taps
from milr.cache import cached
from milr.data.images import ImageSet, content_digest
from milr.evaluation import boxes
from milr.evaluation.cases import SOURCES as PEERS
from milr.evaluation.localisation import positive_share, resize
from milr.evaluation.sanity import cascade
from milr.peers import baselines, gradients, mip_in, relevance
from milr.peers.mip_in import Fitted, InverseNetwork, indicator
from milr.peers.peer import Peer
from milr.peers.targets import Target

OWN = ("MIP-IN", "MIP-IN, signed")
LARGE = {"vgg19": ("features.27", "features.35"), "resnet50": ("layer3", "layer4")}
NULLS = ("centred Gaussian", "random")
# A box around one region is for maps as coarse as class activation maps: that above a threshold a
# gradient has many small ones, and no large one, says nothing about where it lies.
GRAIN = (16, 16)


@dataclass(frozen=True, eq=False)
class Looked:
    """A classifier, and where its maps are to lie.

    lowest: the layer down to which it is inverted; last: the highest one whose features are maps
    """

    name: str
    model: nn.Module
    lowest: str
    last: str


def fit_once(
    network: InverseNetwork, model: nn.Module, images: Tensor, gate=indicator, **settings
) -> list[Fitted]:
    """`milr.peers.mip_in.fit`, from the cache; seconds are those of the fit that was kept.

    images: (n, ...) as the model takes them; settings: as there. The network gets the fitted
    weights. Raises as that does.
    """
    device = taps.device_of(model).type
    made_for = [(layer.stage.kind, layer.stage.given) for layer in network.layers]
    said = [type(layer).__name__ for layer in network.layers]
    config = settings | {
        "layers": made_for,
        "inverses": said,
        "gate": gate.__name__,
        "prediction": network.prediction.__name__,
        "device": device,
    }

    def make() -> dict:
        fitted = mip_in.fit(network, model, images, gate, **settings)
        state = {name: value.cpu() for name, value in network.state_dict().items()}
        return {"network": state, "fitted": [tuple(one) for one in fitted]}

    start, numbers = network.state_dict().values(), model.state_dict().values()
    found = cached(
        "inverse",
        config,
        make,
        sources=(mip_in,),
        data=content_digest(images, str(model), str(network), *start, *numbers),
    )
    network.load_state_dict(found["network"])
    network.requires_grad_(False)
    return [Fitted(*one) for one in found["fitted"]]


def methods(looked: Looked, network: InverseNetwork, steps: int, samples: int) -> dict[str, Peer]:
    """MIP-IN, other methods of the registry's kinds, and two maps that know nothing.

    steps: of integrated gradients; samples: of SmoothGrad
    """
    same, last = looked.lowest, looked.last
    signed = {"signed": True}
    along = gradients.integrated_gradients(steps)
    found = [
        mip_in.mip_in_peer(network),
        mip_in.signed_peer(network),
        Peer("saliency", "input", "label", gradients.saliency),
        Peer("input x gradient", "input", "label", gradients.input_x_gradient, **signed),
        Peer("integrated gradients", "input", "label", along, **signed),
        Peer("SmoothGrad", "input", "label", gradients.smooth_grad(samples)),
        Peer("guided backpropagation", "input", "label", gradients.guided_backpropagation),
        Peer("guided Grad-CAM", "input", "label", gradients.guided_grad_cam(last), fitted=last),
        Peer("Grad-CAM, same layer", same, "label", gradients.grad_cam(same)),
        Peer("Grad-CAM, last layer", last, "label", gradients.grad_cam(last)),
        Peer("DeepLift", "input", "label", gradients.deep_lift, **signed),
        Peer("LRP", "input", "label", relevance.layer_wise_relevance, **signed),
        Peer("centred Gaussian", "input", "nothing", baselines.centred()),
        Peer("random", "input", "nothing", baselines.random()),
    ]
    return {peer.name: peer for peer in found}


def with_sizes(maps: Mapping[str, Tensor], peers: Mapping[str, Peer]) -> dict[str, Tensor]:
    """Maps by method, and those of signed methods also as "NAME, sizes", as MIP-IN's are read."""
    signed = [name for name, peer in peers.items() if peer.signed and name not in OWN]
    return dict(maps) | {f"{name}, sizes": maps[name].abs() for name in signed}


def maps_once(
    model: nn.Module,
    peers: Mapping[str, Peer],
    network: InverseNetwork,
    images: Tensor,
    target: Target,
    settings: Mapping[str, object],
) -> dict[str, Tensor]:
    """Maps (n, H, W) of each method, from the cache. settings: all else that a map depends on."""
    device = taps.device_of(model).type
    asked = content_digest(
        images, target.name, *target.context, str(model), *model.state_dict().values()
    )
    fitted = content_digest(asked, str(network), *network.state_dict().values())

    def made(name: str, peer: Peer) -> Tensor:
        own = name in OWN
        return cached(
            "maps",
            {"method": name, "layer": peer.layer, "of": peer.fitted, "device": device, **settings},
            lambda: peer.maps(model, images, target),
            sources=(*PEERS, mip_in) if own else PEERS,
            data=fitted if own else asked,
        )

    return {name: made(name, peer) for name, peer in peers.items()}


def scores(maps: Tensor, images: ImageSet) -> dict[str, Tensor]:
    """How maps (n, H, W) of images lie, each image on its own: measure -> (n,).

    box:      `boxes.box_accuracy`
    match:    `boxes.box_match` of the maps' means on a grid of `GRAIN`
    pointing: 1 where the largest value is in the box
    outside:  share of the map's positive values that is outside of the object; NaN without any
    """
    size = tuple(images.images.shape[-2:])
    given = boxes.boxes_of(images)
    inside = positive_share(maps, boxes.objects_of(images)).per_image
    return {
        "box": boxes.box_accuracy(maps, given, size),
        "match": boxes.box_match(resize(maps, GRAIN), given, size),
        "pointing": boxes.pointed(maps, given, size),
        "outside": 1 - inside,
    }


def best_peer(values: Mapping[str, float]) -> str:
    """The name with the largest value, among methods that are not MIP-IN and know something."""
    others = {name: value for name, value in values.items() if name not in (*OWN, *NULLS)}
    return max(others, key=others.get)


def forgotten(model: nn.Module, layers: Sequence[str], seed: int = 0) -> nn.Module:
    """A copy of the model in which these layers, the top one first, start anew."""
    return [copy for _, copy in cascade(model, layers, seed)][-1]


def barely_changed(images: Tensor, seed: int = 0) -> Tensor:
    """Images, of any shape, with noise of a hundredth of their range, which nobody sees."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return images + 0.01 * (images.max() - images.min()) * noise


def pretrained(name: str, device: torch.device, weights: str | None = "DEFAULT") -> Looked:
    """torchvision's network of that name; weights: its best ones for ImageNet, None for none.

    Raises ValueError for another name than those of `LARGE`.
    """
    if name not in LARGE:
        raise ValueError(f"no network {name!r} here; give one of {', '.join(LARGE)}")
    model = get_model(name, weights=weights).eval().to(device)
    return Looked(name, model, *LARGE[name])


def enlarged(images: Tensor, size: int = 224) -> Tensor:
    """Images (n, 3, H, W) at the size that networks of ImageNet take (bilinear)."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False)


def chosen(model: nn.Module, images: Tensor, batch: int = 64) -> Tensor:
    """(n,) the class that the model chooses for each image."""
    device = taps.device_of(model)
    with torch.no_grad():
        return torch.cat([model(chunk.to(device)).argmax(1).cpu() for chunk in images.split(batch)])
