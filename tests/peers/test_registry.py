"""The table of peers."""

from milr.peers.registry import PEERS, peers

ASKED = (
    "saliency", "input x gradient", "integrated gradients", "SmoothGrad",
    "guided backpropagation", "guided Grad-CAM", "Grad-CAM, layer1", "Grad-CAM, layer4",
    "Grad-CAM on the embedding, layer4", "occlusion", "DeepLift", "LRP", "deep Taylor", "edges",
    "centred Gaussian", "random", "activation norm, layer1",
)  # fmt: skip


def test_all_methods_that_were_asked_for_are_there():
    assert set(ASKED) <= set(PEERS)
    assert all(name == peer.name for name, peer in PEERS.items())


def test_layers_may_have_other_names():
    assert {peer.layer for peer in peers("stem", "trunk").values()} == {"input", "stem", "trunk"}
