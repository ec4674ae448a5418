"""captum's methods through the peers' interface, where their answer has a closed form."""

import pytest
import torch
from torch import nn

from milr.peers import gradients, targets
from milr.peers.peer import prepared


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def linear():
    """Its logit of class c is the sum of weights times pixels."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 6, 4)).eval()


@pytest.fixture
def rectified():
    """A small residual-free network; one rectifier is used twice, in place."""
    torch.manual_seed(1)
    shared = nn.ReLU(inplace=True)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), shared, nn.MaxPool2d(2),
        nn.Conv2d(4, 5, 3, padding=1), shared, nn.Flatten(), nn.Linear(45, 4),
    ).eval()  # fmt: skip


def asked(model, method, images, classes=(1, 2)):
    target = targets.class_logit(torch.tensor(classes))
    return method(prepared(model, images[:1]), images, target)


def products(linear, images, classes=(1, 2)):
    weights = linear[1].weight.detach()[list(classes)].view(-1, 3, 6, 6)
    return weights, weights * images


@pytest.mark.parametrize(
    "method",
    [
        gradients.input_x_gradient,
        gradients.integrated_gradients(steps=8),
        gradients.deep_lift,
        gradients.occlusion(share=1 / 6),
    ],
    ids=["input x gradient", "integrated gradients", "DeepLift", "occlusion of single pixels"],
)
def test_contributions_of_a_linear_model_are_weight_times_pixel(linear, method):
    images = draw(2, 3, 6, 6)
    _, expected = products(linear, images)
    assert torch.allclose(asked(linear, method, images), expected.sum(1), atol=1e-5)


@pytest.mark.parametrize(
    "method",
    [gradients.saliency, gradients.smooth_grad(samples=3), gradients.guided_backpropagation],
    ids=["saliency", "SmoothGrad", "guided backpropagation"],
)
def test_magnitudes_of_a_linear_model_are_its_largest_weights(linear, method):
    images = draw(2, 3, 6, 6)
    weights, _ = products(linear, images)
    assert torch.allclose(asked(linear, method, images), weights.abs().amax(1), atol=1e-6)


def test_smooth_grad_of_an_image_depends_on_no_other(rectified):
    images = draw(3, 3, 6, 6, seed=4)
    images[2] *= 100  # its noise is a hundred times as large
    method = gradients.smooth_grad(samples=5, noise=0.3)
    together = asked(rectified, method, images, (1, 2, 3))
    alone = [asked(rectified, method, images[i : i + 1], (i + 1,)) for i in range(3)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)
    assert not torch.allclose(together, asked(rectified, gradients.saliency, images, (1, 2, 3)))


@pytest.mark.parametrize(
    "method, tolerance",
    [(gradients.deep_lift, 1e-4), (gradients.integrated_gradients(steps=200), 2e-2)],
    ids=["DeepLift", "integrated gradients"],
)
def test_contributions_add_up_to_the_difference_from_the_reference(rectified, method, tolerance):
    images = draw(2, 3, 6, 6, seed=4)
    logits = rectified(images) - rectified(torch.zeros_like(images))
    found = asked(rectified, method, images).sum((1, 2))
    assert torch.allclose(found, logits[[0, 1], [1, 2]].detach(), atol=tolerance)


def test_integrated_gradients_at_a_layer_add_up_too(rectified):
    images = draw(2, 3, 6, 6, seed=4)
    logits = rectified(images) - rectified(torch.zeros_like(images))
    found = asked(rectified, gradients.layer_integrated_gradients("2", 200), images)
    assert found.shape == (2, 3, 3)
    assert torch.allclose(found.sum((1, 2)), logits[[0, 1], [1, 2]].detach(), atol=2e-2)


def test_guided_backpropagation_stops_negative_gradients():
    # Two paths from the pixel: +1 through a rectifier, then weight -1; and +1, then weight 2.
    model = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[3].weight.copy_(torch.tensor([[-1.0, 2.0]]))
    images = torch.ones(1, 3, 1, 1)
    assert float(asked(model.eval(), gradients.saliency, images, (0,))) == 1
    assert float(asked(model, gradients.guided_backpropagation, images, (0,))) == 2


def test_grad_cam_weights_channels_by_their_mean_gradient_and_cuts_off_below_zero():
    model = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])[:, :, None, None])
    model.append(nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[3].weight.copy_(torch.tensor([[3.0, -1.0]]))
    images = draw(1, 3, 4, 4)
    expected = ((3 * images[:, 0] - images[:, 1]) / 16).relu()
    found = asked(model.eval(), gradients.grad_cam("0"), images, (0,))
    assert torch.allclose(found, expected, atol=1e-6) and (found == 0).any()


def test_grad_cam_on_the_embedding_needs_no_target():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    images = draw(2, 3, 6, 6)
    found = gradients.grad_cam_on_embedding("0")(model, images, None)
    local, z = model[0](images), model(images)
    # The gradient of z towards itself is z / |z|, spread over the 16 locations.
    weights = torch.nn.functional.normalize(z, dim=1)[:, :, None, None] / 16
    assert torch.allclose(found, (weights * local).sum(1).relu(), atol=1e-6)


def test_guided_grad_cam_is_zero_where_grad_cam_is(rectified):
    images = draw(2, 3, 6, 6, seed=4)
    model = prepared(rectified, images[:1])
    target = targets.class_logit(torch.tensor([1, 2]))
    cam = gradients.grad_cam("3")(model, images, target)
    found = gradients.guided_grad_cam("3")(model, images, target)
    dark = torch.nn.functional.interpolate(cam[:, None], (6, 6), mode="bilinear")[:, 0] == 0
    assert dark.any() and (found[dark] == 0).all() and found.sum() > 0
    assert (found >= 0).all()


def test_occlusion_shares_a_square_s_effect_over_its_pixels():
    """Only one pixel counts; all squares over it see its value go, the others nothing."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 36, 1, bias=False)).eval()
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].weight.view(3, 6, 6)[0, 2, 3] = 1.0
    images = torch.full((1, 3, 6, 6), 5.0)
    found = asked(model, gradients.occlusion(share=1 / 3), images, (0,))[0]
    assert found[2, 3] == found.max() == 5
    assert (found[0] == 0).all() and (found[:, 0] == 0).all()
