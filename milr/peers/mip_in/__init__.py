"""MIP-IN, the mutual information preserving inverse network, as a review of it describes it.

Deng et al., Mutual Information Preserving Back-propagation, 2021. An inverse network has as many
layers as the model that it explains. Each of its layers learns, from the prediction downwards, to
reconstruct what the model had before the layer. Gates, 1 where the model's activation was not 0,
then make a signal of the prediction that is the sample's own.

    network = InverseNetwork(model, images[:1])
    fit(network, model, images)
    signals(network, model, images)                     # of every layer
    attribution(network, model, images, target)         # the weights alone, through the gates

What the review leaves open, and how it is read here:

- *The gate* is not applied to images, since no activation makes them. Each layer learns from the
  signals that it is given later: gated ones for local signals, ungated ones for global signals.
- *Attribution*, "the superposition of the weights": the layers' weights one after another, without
  their offsets, with the gates in between, applied to the direction in the output that is asked.
- *Max-pooling* is undone by a layer that learns too, or puts values where the maxima were
  ("switches"). Mean pooling and residual blocks are undone by layers that learn.
- *A map* has the attribution's sizes, summed over channels, or, signed, its plain sum.
"""

from milr.peers.mip_in.fitting import Fitted, explained, fit
from milr.peers.mip_in.layers import indicator, open_gate
from milr.peers.mip_in.network import (
    InverseNetwork,
    as_it_is,
    attribution,
    features_of,
    mip_in_peer,
    signals,
    signed_peer,
)
from milr.peers.mip_in.reading import Stage, read

__all__ = [
    "Fitted",
    "InverseNetwork",
    "Stage",
    "as_it_is",
    "attribution",
    "explained",
    "features_of",
    "fit",
    "indicator",
    "mip_in_peer",
    "open_gate",
    "read",
    "signals",
    "signed_peer",
]
