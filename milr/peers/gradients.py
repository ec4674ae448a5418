"""Gradients, and what is made of them, through captum.

Magnitudes (saliency, SmoothGrad, guided backpropagation) are the largest over the colour channels;
contributions (all others) keep their sign and are summed over the channels. A reference image is 0
everywhere after normalisation: the mean colour of ImageNet. Methods take images (B, C, H, W) and
give (B, H, W), at a layer (B, h, w) on its grid.
"""

import warnings
from contextlib import contextmanager

import torch
from captum.attr import (
    DeepLift,
    GuidedBackprop,
    GuidedGradCam,
    InputXGradient,
    IntegratedGradients,
    LayerGradCam,
    LayerIntegratedGradients,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from torch import Tensor, nn

from milr import taps
from milr.peers.peer import Method, Scored
from milr.peers.targets import Target, along_embedding

# Images that one pass of integrated gradients holds at once: with its graph, a few gigabytes.
AT_ONCE = 64


def saliency(model: nn.Module, images: Tensor, target: Target) -> Tensor:
    """Size of the gradient, (B, H, W).

    Simonyan et al., Deep Inside Convolutional Networks, 2013.
    """
    return _asked(Saliency(Scored(model, target)), images, target, abs=True).amax(1)


def input_x_gradient(model: nn.Module, images: Tensor, target: Target) -> Tensor:
    """Image times gradient, signed, (B, H, W). Shrikumar et al., Not Just a Black Box, 2016."""
    return _asked(InputXGradient(Scored(model, target)), images, target).sum(1)


def integrated_gradients(steps: int = 50) -> Method:
    """Gradients along the way from the mean colour to the image, signed.

    Sundararajan et al., Axiomatic Attribution for Deep Networks, 2017.
    """

    def method(model: nn.Module, images: Tensor, target: Target) -> Tensor:
        explained = IntegratedGradients(Scored(model, target))
        how = {"n_steps": steps, "internal_batch_size": max(AT_ONCE, len(images))}
        return _asked(explained, images, target, **how).sum(1)

    return method


def layer_integrated_gradients(layer: str, steps: int = 16) -> Method:
    """At a layer, signed: straight from its outputs for the mean colour to those for the image."""

    def method(model: nn.Module, images: Tensor, target: Target) -> Tensor:
        scored = Scored(model, target)
        explained = LayerIntegratedGradients(scored, taps.find_layer(model, layer))
        how = {"n_steps": steps, "internal_batch_size": max(AT_ONCE, len(images))}
        return _asked(explained, images, target, **how).sum(1)

    return method


def smooth_grad(samples: int = 16, noise: float = 0.05) -> Method:
    """Size of the mean gradient of noisy copies. Smilkov et al., SmoothGrad, 2017.

    noise: standard deviation, as a share of the range of an image's own values. The paper likes
    0.1 to 0.2 for photographs; a network of drawn birds is lost in that. On validation species
    smaller values were nearly equal, and the default was the best of three when 5 % is kept or
    dropped; that such small noise is needed was first seen on novel species.
    """

    def method(model: nn.Module, images: Tensor, target: Target) -> Tensor:
        explained = NoiseTunnel(Saliency(Scored(model, target)))
        found = []
        # One by one: captum has one deviation, and one stream of noise, for all it is given.
        for at, image in enumerate(images.split(1)):
            how = {"nt_type": "smoothgrad", "nt_samples": samples, "nt_samples_batch_size": AT_ONCE}
            how["stdevs"] = noise * float(image.max() - image.min())
            with torch.random.fork_rng(devices=[image.device] if image.is_cuda else []):
                torch.manual_seed(0)
                found.append(_asked(explained, image, target[at : at + 1], abs=False, **how))
        return torch.cat(found).abs().amax(1)

    return method


def guided_backpropagation(model: nn.Module, images: Tensor, target: Target) -> Tensor:
    """Size of the gradient when rectifiers let only positive gradients back, (B, H, W).

    Springenberg et al., Striving for Simplicity, 2014.
    """
    return _asked(GuidedBackprop(Scored(model, target)), images, target).abs().amax(1)


def deep_lift(model: nn.Module, images: Tensor, target: Target) -> Tensor:
    """Contributions to the difference from the mean colour, signed, (B, H, W); the rescale rule.

    Shrikumar et al., Learning Important Features Through Propagating Activation Differences, 2017.
    captum's rule knows rectifiers and pooling. What a prototypical network does with its embedding
    (distance and softmax) is no module, and enters with its gradient at the image, so that maps of
    a log-probability need not add up to its difference; those of a classifier's logit do.
    """
    return _asked(DeepLift(Scored(model, target)), images, target).sum(1)


def grad_cam(layer: str) -> Method:
    """Channels of a layer, weighted by their mean gradient; what is negative is cut off.

    Selvaraju et al., Grad-CAM, 2017.
    """

    def method(model: nn.Module, images: Tensor, target: Target) -> Tensor:
        explained = LayerGradCam(Scored(model, target), taps.find_layer(model, layer))
        return _asked(explained, images, target, relu_attributions=True)[:, 0]

    return method


def grad_cam_on_embedding(layer: str) -> Method:
    """Grad-CAM for the direction of the image's own representation, so that no label is needed.

    Chen et al., Adapting Grad-CAM for Embedding Networks, 2020, with the scalar of
    `milr.peers.targets.along_embedding` in place of their sampled triplets.
    """
    to_target = grad_cam(layer)

    def method(model: nn.Module, images: Tensor, target: Target) -> Tensor:
        return to_target(model, images, along_embedding(model(images)))

    return method


def guided_grad_cam(layer: str) -> Method:
    """Largest size over colours of guided backpropagation times Grad-CAM.

    Selvaraju et al., Grad-CAM, 2017. Without signs, as `guided_backpropagation` is shown.
    """

    def method(model: nn.Module, images: Tensor, target: Target) -> Tensor:
        explained = GuidedGradCam(Scored(model, target), taps.find_layer(model, layer))
        return _asked(explained, images, target, interpolate_mode="bilinear").abs().amax(1)

    return method


def occlusion(share: float = 1 / 7, at_once: int = 4) -> Method:
    """Drop of the score when a square of mean colour covers the location, signed.

    Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, 2014. The square's
    side is a share of the image's, and it moves by half of that; a pixel has the mean over all
    squares that cover it. at_once: squares in one pass.
    """

    def method(model: nn.Module, images: Tensor, target: Target) -> Tensor:
        channels, *size = images.shape[1:]
        side = [max(1, round(share * length)) for length in size]
        explained = Occlusion(Scored(model, target))
        found = explained.attribute(
            images,
            (channels, *side),
            strides=(channels, *((length + 1) // 2 for length in side)),
            additional_forward_args=target.context,
            perturbations_per_eval=at_once,
        )
        # The same value in each channel, since all are covered together.
        return found[:, 0]

    return method


def _asked(explained, images: Tensor, target: Target, **settings) -> Tensor:
    """What captum attributes to images (B, C, H, W), or to a layer's outputs, for the target."""
    images = images.detach().clone().requires_grad_()
    with _without_hook_warnings():
        return explained.attribute(images, additional_forward_args=target.context, **settings)


@contextmanager
def _without_hook_warnings():
    # captum says each time that it sets hooks; on a copy of the model that is nobody's concern.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(?s).*Setting (forward, )?backward hooks")
        yield
