"""The inverse network against cases whose inverse is known, and models that it must refuse."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import get_model

from milr.peers import mip_in, targets
from milr.peers.mip_in import InverseNetwork, indicator, open_gate
from milr.peers.mip_in.layers import Switches
from milr.peers.mip_in.reading import read


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seeded(make):
    torch.manual_seed(0)
    return make().eval()


def linear(matrix):
    layer = nn.Linear(*reversed(matrix.shape), bias=False)
    layer.weight.data = matrix
    return nn.Sequential(layer).eval()


def perceptron():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(18, 12), nn.ReLU(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3)
    )


class Block(nn.Module):
    """A residual block that is written by hand, whose shortcut has a layer if it is given one."""

    def __init__(self, before, after, stride=1):
        super().__init__()
        self.one = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(after)
        self.two = nn.Conv2d(after, after, 3, 1, 1)
        self.short = nn.Conv2d(before, after, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        return F.relu(self.two(F.relu(self.norm(self.one(x)))) + self.short(x))


def residual():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), Block(4, 4), nn.MaxPool2d(2), Block(4, 6, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5),
    )  # fmt: skip


def test_linear_network_is_undone_by_its_inverse_matrix():
    matrix = torch.tensor([[2.0, 1.0], [0.0, 1.0]])
    model, images = linear(matrix), draw(256, 2)
    network = InverseNetwork(model, images[:1])
    mip_in.fit(network, model, images, steps=500)
    assert torch.allclose(network.layers[0].layer.weight, torch.linalg.inv(matrix), atol=1e-3)
    # The signal of an input is then the input, and the attribution a column of the inverse.
    assert torch.allclose(mip_in.signals(network, model, images)[0], images, atol=1e-2)
    second = targets.class_logit(torch.ones(256, dtype=torch.int64))
    found = mip_in.attribution(network, model, images, second)
    assert torch.allclose(found, torch.tensor([-0.5, 1.0]).expand(256, 2), atol=1e-3)


def test_what_a_projection_forgets_is_reconstructed_by_regression():
    """y = x_1 alone, x_2 = x_1 / 2 + noise: the best is (y, y / 2), and x_2's noise is lost."""
    x = draw(4000, 2)
    x[:, 1] = 0.5 * x[:, 0] + 0.5 * x[:, 1]
    model = linear(torch.tensor([[1.0, 0.0]]))
    network = InverseNetwork(model, x[:1])
    mip_in.fit(network, model, x, steps=500)
    exact = torch.linalg.lstsq(x[:, :1], x).solution.flatten()
    assert torch.allclose(network.layers[0].layer.weight.flatten(), exact, atol=0.02)
    gained, spread = mip_in.explained(network, model, x)["0"]
    truth = 1 - 0.25 / (1 + 0.25 + 0.25)
    assert float(gained.sum() / spread.sum()) == pytest.approx(truth, abs=0.02)


def test_signals_are_the_pseudocode_written_out():
    model, images = seeded(perceptron), draw(4, 2, 3, 3)
    network = InverseNetwork(model, images[:1])
    first, second, third = (layer.layer for layer in network.layers)
    hidden = model[:3](images)
    upper = model[:5](images)
    signal = third(model(images)) * (upper != 0)
    signal = second(signal) * (hidden != 0)
    expected = first(signal).reshape(images.shape)
    found = mip_in.signals(network, model, images)
    assert torch.allclose(found[0], expected, atol=1e-6)
    assert [tuple(one.shape[1:]) for one in found] == [(2, 3, 3), (12,), (6,)]


def test_gates_are_closed_where_the_activation_is_zero_and_images_have_none():
    model, images = seeded(perceptron), draw(4, 2, 3, 3)
    images[:, :, 0] = 0
    network = InverseNetwork(model, images[:1])
    lowest, hidden, _ = mip_in.signals(network, model, images)
    assert ((hidden == 0) == (model[:3](images) == 0)).all()
    assert (lowest[:, :, 0] != 0).any()


def test_global_signal_depends_on_the_prediction_alone():
    """Two inputs with one prediction: the same global signal, and other local ones."""
    model = seeded(perceptron)
    model[5].weight.data.zero_()
    images = draw(2, 2, 3, 3)
    network = InverseNetwork(model, images[:1])
    same = mip_in.signals(network, model, images, open_gate)[0]
    other = mip_in.signals(network, model, images, indicator)[0]
    assert torch.allclose(same[0], same[1]) and not torch.allclose(other[0], other[1])


def test_attribution_is_the_gradient_of_the_signal_along_the_class():
    model, images = seeded(residual), draw(3, 3, 8, 8)
    network = InverseNetwork(model, images[:1])
    features = mip_in.features_of(network, model, images)
    asked = targets.class_logit(torch.tensor([0, 3, 4]))
    direction = F.one_hot(torch.tensor([0, 3, 4]), 5).float()
    _, expected = torch.func.jvp(
        lambda y: network.down(y, features)[0], (features["prediction"],), (direction,)
    )
    found = mip_in.attribution(network, model, images, asked)
    assert torch.allclose(found, expected, atol=1e-5)


def test_fit_reconstructs_every_kind_of_layer_better_than_the_mean():
    model = seeded(residual)
    images = draw(160, 3, 1, 1) + 0.2 * draw(160, 3, 8, 8, seed=1)
    network = InverseNetwork(model, images[:1])
    kinds = [layer.stage.kind for layer in network.layers]
    assert kinds == [
        "convolution", "residual", "max-pool", "residual", "mean-pool", "fully connected"
    ]  # fmt: skip
    fitted = mip_in.fit(network, model, images, steps=60)
    assert [one.name for one in fitted] == network.names
    shares = {
        name: float(gained.sum() / spread.sum())
        for name, (gained, spread) in mip_in.explained(network, model, images).items()
    }
    assert min(shares.values()) > 0.2, shares


def test_model_stays_as_it_is():
    model, images = seeded(residual), draw(8, 3, 8, 8)
    before, outputs = copy.deepcopy(model.state_dict()), model(images)
    network = InverseNetwork(model, images[:1])
    mip_in.fit(network, model, images, steps=2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(outputs, model(images))
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_fits_with_one_seed_are_equal():
    model, images = seeded(perceptron), draw(32, 2, 3, 3)
    both = [InverseNetwork(model, images[:1], seed=3) for _ in range(2)]
    losses = [mip_in.fit(network, model, images, steps=5, seed=3)[0].losses for network in both]
    assert losses[0] == losses[1]


def test_switches_put_values_where_the_maxima_were():
    model = nn.Sequential(nn.MaxPool2d(2)).eval()
    image = torch.tensor([[[[1.0, 5.0], [2.0, 3.0]]]])
    network = InverseNetwork(model, image, pooling="switches")
    assert isinstance(network.layers[0], Switches)
    found = mip_in.signals(network, model, image)[0]
    assert found.tolist() == [[[[0.0, 5.0], [0.0, 0.0]]]]


def test_overlapping_windows_with_one_maximum_share_it():
    model = nn.Sequential(nn.MaxPool2d(3, 2, 1)).eval()
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 1, 1] = 7.0
    found = mip_in.signals(InverseNetwork(model, image, pooling="switches"), model, image)[0]
    assert found[0, 0, 1, 1] == 7 and found.sum() == 7


def test_switches_are_those_of_what_is_pooled_and_not_of_the_stages_start():
    """Batch normalisation with a negative weight makes the largest value the smallest."""
    model = nn.Sequential(nn.Identity(), nn.BatchNorm2d(1), nn.MaxPool2d(2)).eval()
    model[1].weight.data.fill_(-1.0)
    image = torch.tensor([[[[1.0, 5.0], [2.0, 3.0]]]])
    network = InverseNetwork(model, image, "0", pooling="switches")
    lowest = mip_in.signals(network, model, image)[0]
    assert (lowest != 0).tolist() == [[[[True, False], [False, False]]]]


@pytest.mark.parametrize("size", [7, 8, 9])
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        nn.Conv2d(2, 4, (3, 2), dilation=2, groups=2),
        nn.MaxPool2d(3, 2, 1),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.AvgPool2d(2, 2),
    ],
    ids=str,
)
def test_signals_have_the_shape_of_what_they_reconstruct(layer, size):
    images = draw(2, 2, size, size)
    model = nn.Sequential(layer, nn.ReLU()).eval()
    network = InverseNetwork(model, images[:1])
    assert mip_in.signals(network, model, images)[0].shape == images.shape


def test_upper_layers_alone_end_at_the_layer_that_is_named():
    model, images = seeded(lambda: get_model("resnet18", weights=None)), draw(2, 3, 32, 32)
    network = InverseNetwork(model, images[:1], "layer3")
    assert network.names == ["layer4.0.conv1", "layer4.1.conv1", "avgpool", "fc"]
    assert mip_in.signals(network, model, images)[0].shape == (2, 256, 2, 2)


def test_peer_works_on_the_copy_that_peers_get_and_enlarges_its_map():
    model, images = seeded(lambda: get_model("resnet18", weights=None)), draw(2, 3, 32, 32)
    network = InverseNetwork(model, images[:1], "layer3")
    asked = targets.class_logit(torch.tensor([1, 2]))
    maps = mip_in.mip_in_peer(network).maps(model, images, asked)
    assert maps.shape == (2, 32, 32) and maps.min() >= 0
    inside = mip_in.attribution(network, model, images, asked).abs().sum(1)
    assert float(maps.amax()) <= float(inside.amax()) + 1e-4
    signed = mip_in.signed_peer(network)
    assert signed.signed and signed.maps(model, images, asked).min() < 0


def test_bottleneck_blocks_with_three_layers_are_inverted():
    model, images = seeded(lambda: get_model("resnet50", weights=None)), draw(4, 3, 32, 32)
    network = InverseNetwork(model, images[:1], "layer4.1")
    mip_in.fit(network, model, images, steps=1, batch=2)
    assert network.names == ["layer4.2.conv1", "avgpool", "fc"]
    assert len(network.layers[0].sides[0]) == 3


def test_vgg19_is_read_from_the_prediction_to_the_image():
    with torch.device("meta"):
        model, image = get_model("vgg19", weights=None).eval(), torch.empty(1, 3, 224, 224)
    stages = read(model, image).stages
    kinds = [stage.kind for stage in stages]
    counts = {kind: kinds.count(kind) for kind in set(kinds)}
    assert counts == {"convolution": 16, "max-pool": 5, "mean-pool": 1, "fully connected": 3}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Tanh()), r"layer '1' \(GELU\) cannot"),
        (nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4)), r"layer '1' \(LSTM\)|cannot be traced"),
        (nn.Sequential(nn.Flatten(), nn.ReLU()), "no layer to invert"),
    ],
)
def test_models_of_other_layers_are_refused_by_the_first_of_them(model, message):
    with pytest.raises(ValueError, match=message):
        InverseNetwork(model.eval(), draw(1, 4))


def test_layers_below_the_named_one_may_be_of_any_kind():
    model = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 3)).eval()
    assert InverseNetwork(model, draw(1, 4), "1").names == ["2"]


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Difference(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return torch.add(x, self.layer(x), alpha=-1)


class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x) * x


def test_models_that_cannot_be_followed_are_refused():
    with pytest.raises(ValueError, match="Branching cannot be traced"):
        InverseNetwork(Branching().eval(), draw(1, 4))
    with pytest.raises(ValueError, match=r"step 'mul'"):
        InverseNetwork(Product().eval(), draw(1, 4))
    with pytest.raises(
        ValueError, match=r"step 'add' is a sum with alpha, and only a plain a \+ b"
    ):
        InverseNetwork(Difference().eval(), draw(1, 4))
    with pytest.raises(ValueError, match="call model.eval"):
        InverseNetwork(residual(), draw(1, 3, 8, 8))
    with pytest.raises(ValueError, match="gets around"):
        InverseNetwork(seeded(residual), draw(1, 3, 8, 8), "2.one")
    with pytest.raises(ValueError, match="nearest names"):
        InverseNetwork(seeded(residual), draw(1, 3, 8, 8), "layer9")
    with pytest.raises(ValueError, match="unequal windows"):
        InverseNetwork(nn.Sequential(nn.AdaptiveAvgPool2d(3)).eval(), draw(1, 3, 8, 8))
    with pytest.raises(ValueError, match="padding 'same'"):
        model = nn.Sequential(nn.Conv2d(3, 3, 3, padding="same")).eval()
        InverseNetwork(model, draw(1, 3, 8, 8))


def test_bad_calls_say_what_to_do():
    model, images = seeded(perceptron), draw(4, 2, 3, 3)
    with pytest.raises(ValueError, match="pooling is 'guess'; give one of learned, switches"):
        InverseNetwork(model, images[:1], pooling="guess")
    network = InverseNetwork(model, images[:1])
    with pytest.raises(ValueError, match="give two or more"):
        mip_in.fit(network, model, images[:1])
    with pytest.raises(FloatingPointError, match="mend images that are not finite"):
        mip_in.fit(network, model, images * torch.inf, steps=1)
    other = nn.Sequential(nn.Flatten(), nn.Linear(18, 3)).eval()
    with pytest.raises(ValueError, match="make one for this model"):
        mip_in.signals(network, other, images)


def test_a_target_is_of_outputs_and_not_of_another_prediction():
    model, images = seeded(perceptron), draw(4, 2, 3, 3)
    network = InverseNetwork(model, images[:1], prediction=lambda outputs: outputs.softmax(1))
    assert mip_in.signals(network, model, images)[0].shape == images.shape
    with pytest.raises(ValueError, match="something else than the model's outputs.*as_it_is"):
        mip_in.attribution(network, model, images, targets.class_logit(torch.zeros(4).long()))


def test_a_fit_that_cannot_be_is_refused_and_leaves_the_network_as_it_was():
    model = seeded(perceptron)
    images = draw(8, 2, 3, 3)
    network = InverseNetwork(model, images[:1])
    for wrong, said in (({"batch": 0}, "batch is 0"), ({"steps": 2.5}, "steps is 2.5")):
        with pytest.raises(ValueError, match=said):
            mip_in.fit(network, model, images, **wrong)
    with pytest.raises(FloatingPointError, match="became nan"):
        mip_in.fit(network, model, images * torch.nan, steps=1)
    assert not any(one.requires_grad for one in network.parameters())
    with torch.no_grad():
        assert mip_in.fit(network, model, images, steps=2)
    with pytest.raises(ValueError, match=r"does not take an image of shape \(1, 2, 4, 4\)"):
        mip_in.fit(network, model, draw(8, 2, 4, 4))
