"""Everything that the method is held against, as one table.

What has to be fitted first is not in it: `schulz.per_sample` needs the moments of the features,
`schulz.readout_peer` a fitted Readout, `mip_in.mip_in_peer` a fitted inverse network, and
`own.amortised` and `own.refined` the explainer that is compared.
"""

from milr.peers import baselines, gradients, relevance
from milr.peers.peer import Peer


def peers(local: str = "layer1", last: str = "layer4") -> dict[str, Peer]:
    """Name -> peer. local: the layer whose locations MI-LR explains; last: the last one with maps.

    The defaults are the names of torchvision's residual networks. Guided backpropagation, DeepLift
    and layer-wise relevance need rectifiers that are modules (`peer.prepared`).
    """
    found = [
        Peer("saliency", "input", "label", gradients.saliency),
        Peer("input x gradient", "input", "label", gradients.input_x_gradient, signed=True),
        Peer(
            "integrated gradients", "input", "label", gradients.integrated_gradients(), signed=True
        ),
        Peer(
            f"integrated gradients, {local}",
            local,
            "label",
            gradients.layer_integrated_gradients(local),
            signed=True,
        ),
        Peer("SmoothGrad", "input", "label", gradients.smooth_grad()),
        Peer("guided backpropagation", "input", "label", gradients.guided_backpropagation),
        Peer("guided Grad-CAM", "input", "label", gradients.guided_grad_cam(last)),
        Peer(f"Grad-CAM, {local}", local, "label", gradients.grad_cam(local)),
        Peer(f"Grad-CAM, {last}", last, "label", gradients.grad_cam(last)),
        Peer(
            f"Grad-CAM on the embedding, {last}",
            last,
            "nothing",
            gradients.grad_cam_on_embedding(last),
        ),
        Peer("occlusion", "input", "label", gradients.occlusion(), signed=True),
        Peer("DeepLift", "input", "label", gradients.deep_lift, signed=True),
        Peer("LRP", "input", "label", relevance.layer_wise_relevance, signed=True),
        Peer("deep Taylor", "input", "label", relevance.deep_taylor),
        Peer("edges", "input", "nothing", baselines.edges),
        Peer("centred Gaussian", "input", "nothing", baselines.centred()),
        Peer("random", "input", "nothing", baselines.random()),
        Peer(f"activation norm, {local}", local, "nothing", baselines.activation_norm(local)),
    ]
    return {peer.name: peer for peer in found}


PEERS = peers()
