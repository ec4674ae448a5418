"""Networks that learned in different ways, made ready for one and the same question: episodes."""

from itertools import islice

import torch
from scipy.optimize import minimize_scalar
from torch import nn
from torch.optim.swa_utils import update_bn

from milr import taps
from milr.data.episodes import batches_by_class
from milr.data.images import ImageSet, normalise
from milr.models.learner import episodes
from milr.models.prototypical import PrototypicalNetwork
from milr.models.settings import Training

BATCHES = 6
LOG_SCALES = (-12.0, 8.0)  # between which the temperature is looked for


def settle(network: nn.Module, settings: Training, images: ImageSet) -> PrototypicalNetwork:
    """The embedding of a network at any point of any training, compared as prototypes are.

    network: a `PrototypicalNetwork` or `Classifier` of these settings, which stays as it is; what
             is found is on its device
    images:  that it learned from

    Two things are set anew, by the same rule for all. The moments of batch norm are those of some
    training images under the weights as they are: early in a training the running ones lag behind.
    And the temperature is the one with the least loss in one-shot episodes of those images, since
    a network that never saw an episode has learned none.
    """
    with torch.random.fork_rng():
        found = PrototypicalNetwork(settings.backbone, settings.metric)
    body = {name: value for name, value in network.state_dict().items() if name[:3] != "fc."}
    found.load_state_dict(found.state_dict() | body)
    device = taps.device_of(network)
    found.to(device)
    drawn = batches_by_class(images.targets, settings.ways, settings.per_class, settings.seed)
    batches = [normalise(images.images[rows]).to(device) for rows in islice(drawn, BATCHES)]
    update_bn(batches, found)
    found.eval()
    with torch.no_grad():
        embeddings = [found(batch).unflatten(0, (settings.ways, -1)) for batch in batches]
        _set_temperature(found, embeddings)
    return found


def _set_temperature(network: PrototypicalNetwork, embeddings: list[torch.Tensor]) -> None:
    def loss(log_scale: float) -> float:
        network.log_scale.fill_(log_scale)
        return sum(float(episodes(network, batch)[0]) for batch in embeddings)

    best = minimize_scalar(loss, bounds=LOG_SCALES, method="bounded", options={"xatol": 0.01})
    network.log_scale.fill_(float(best.x))
