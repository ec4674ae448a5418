import pytest
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.ops import StochasticDepth

from milr import taps


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.unused = nn.Linear(4, 4)
        self.again = nn.ReLU()
        self.pair = Pair()

    def forward(self, x):
        return self.again(self.pair(self.again(self.first(x)))[0])


class Pair(nn.Module):
    def forward(self, x):
        return x, x


@pytest.fixture
def model():
    return Small().eval()


def hooks(model) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_outputs_are_read_and_hooks_are_gone(model):
    x = torch.randn(2, 3)
    with taps.read(model, ["first"]) as outputs:
        model(x)
    torch.testing.assert_close(outputs["first"], model.first(x))
    assert hooks(model) == 0


def test_what_later_layers_do_in_place_does_not_reach_what_was_read():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True)).eval()
    x = torch.randn(8, 3)
    with taps.read(model, ["0"]) as outputs, torch.no_grad():
        model(x)
    assert outputs["0"].min() < 0
    torch.testing.assert_close(outputs["0"], model[0](x))


def test_a_replaced_output_is_what_the_rest_of_the_model_sees(model):
    x = torch.randn(2, 3)
    with taps.replace(model, "first", torch.zeros_like):
        assert model(x).abs().max() == 0
    assert model(x).abs().max() > 0
    assert hooks(model) == 0


def test_an_exception_leaves_no_hook_and_restores_the_flags(model):
    model.first.bias.requires_grad_(False)
    for context in (
        taps.read(model, ["first"]),
        taps.replace(model, "first", lambda out: out),
        taps.frozen(model),
    ):
        with pytest.raises(KeyError), context:
            raise KeyError
    assert hooks(model) == 0
    assert [p.requires_grad for p in model.first.parameters()] == [True, False]


def test_an_unknown_layer_is_answered_with_the_nearest_names(model):
    with pytest.raises(ValueError, match="no layer 'frist'.*first"):
        taps.find_layer(model, "frist")


def test_a_layer_that_never_ran_is_named(model):
    with pytest.raises(RuntimeError, match="'unused' never ran"), taps.read(model, ["unused"]):
        model(torch.randn(2, 3))


def test_a_layer_that_ran_twice_is_named(model):
    with pytest.raises(RuntimeError, match="'again' ran twice"), taps.read(model, ["again"]):
        model(torch.randn(2, 3))
    assert hooks(model) == 0


def test_a_layer_whose_output_is_no_tensor_is_refused(model):
    with pytest.raises(RuntimeError, match="gives a tuple"), taps.read(model, ["pair"]):
        model(torch.randn(2, 3))


class Padded(nn.Module):
    """Words, of which 0 is padding."""

    def __init__(self, **how):
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, **how)

    def forward(self, x):
        return self.encoder(self.embed(x), src_key_padding_mask=x == 0).mean(1)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_a_layer_that_gives_nested_tensors_is_named():
    words, layer = torch.tensor([[3, 4, 5, 0], [6, 7, 0, 0]]), "encoder.layers.0"
    model = Padded().eval()
    for context in (taps.read(model, [layer]), taps.replace(model, layer, torch.clone)):
        said = "'encoder.layers.0' gives nested tensors.*enable_nested_tensor=False"
        with pytest.raises(ValueError, match=said), taps.frozen(model), context:
            model(words)
    plain = Padded(enable_nested_tensor=False).eval()
    with taps.frozen(plain), taps.read(plain, [layer]) as outputs:
        plain(words)
    assert outputs[layer].shape == (2, 4, 16)


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm1d(3),
        nn.Dropout(0.5),
        StochasticDepth(0.5, "row"),
        nn.InstanceNorm1d(3, track_running_stats=True),
        nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)),
        nn.MultiheadAttention(4, 2, dropout=0.1),
    ],
)
def test_layers_that_change_with_each_pass_are_refused_in_training_mode(layer):
    model = nn.Sequential(nn.Linear(3, 3), layer)
    with pytest.raises(ValueError, match=r"'1.* is in training mode"), taps.frozen(model):
        pass
    with taps.frozen(model.eval()):
        pass


def test_maps_and_tokens_become_locations_and_back():
    maps, tokens = torch.randn(2, 5, 3, 4), torch.randn(2, 7, 5)
    assert taps.as_locations(maps, "a").shape == (2, 12, 5)
    torch.testing.assert_close(taps.as_features(taps.as_locations(maps, "a"), maps), maps)
    torch.testing.assert_close(taps.as_features(taps.as_locations(tokens, "a"), tokens), tokens)
    with pytest.raises(ValueError, match=r"maps \(B, C, H, W\) or tokens"):
        taps.as_locations(torch.zeros(2, 3), "a")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_injected_lies_in_memory_as_the_output_did(dtype):
    maps, tokens = torch.randn(2, 5, 3, 4, dtype=dtype), torch.randn(7, 2, 5, dtype=dtype)
    for like in (maps, maps.to(memory_format=torch.channels_last), tokens, tokens.transpose(0, 1)):
        values = torch.randn(like.shape, requires_grad=True)
        found = taps.laid_out(values, like)
        assert found.stride() == like.stride() and found.dtype == dtype
        assert torch.equal(found, values.to(dtype)) and found.data_ptr() != values.data_ptr()
        (gradient,) = torch.autograd.grad(found.float().sum(), values)
        assert torch.equal(gradient, torch.ones_like(values))
    draws = taps.laid_out(torch.randn(6, 5, 3, 4), maps.to(memory_format=torch.channels_last))
    assert draws.is_contiguous(memory_format=torch.channels_last)


def stack(*layers) -> nn.Sequential:
    return nn.Sequential(*layers, nn.Flatten()).eval()


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([nn.Conv2d(3, 4, 3, padding=1)], 0.5),
        ([nn.Conv2d(3, 4, 4, stride=4)], 0.5),
        ([nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2)], 0.5),
        ([nn.Conv2d(3, 4, 3, stride=2, padding=1)], 0.25),
        ([nn.Conv2d(3, 4, 7, stride=2, padding=3), nn.MaxPool2d(3, 2, 1)], 0.125),
        ([nn.Conv2d(3, 4, 2, stride=2), nn.Conv2d(4, 4, 3, stride=2, padding=1)], 0.25),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_where_a_location_looks_is_found_out(layers, expected, count):
    images = torch.randn(count, 3, 40, 56)
    model = stack(*layers)
    assert taps.offset(model, str(len(layers) - 1), images) == (expected, expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert taps.offset(model, str(len(layers) - 1), images) == (expected, expected)
    assert images.isfinite().all() and hooks(model) == 0


def test_where_a_location_looks_is_found_whatever_was_said_of_tf32():
    settings = torch.backends.cudnn.conv
    before = settings.fp32_precision
    try:
        settings.fp32_precision = "ieee"
        model = stack(nn.Conv2d(3, 4, 3, stride=2, padding=1))
        assert taps.offset(model, "0", torch.randn(2, 3, 16, 16)) == (0.25, 0.25)
    finally:
        settings.fp32_precision = before


def test_what_is_moved_in_inference_can_still_learn(monkeypatch):
    module, found = nn.Linear(2, 2), []
    monkeypatch.setattr(module, "to", lambda _: found.append(torch.is_inference_mode_enabled()))
    with torch.inference_mode():
        taps.move(module, torch.device("cpu"))
    assert found == [False]


def test_a_residual_network_looks_near_the_corner_of_its_cells():
    model = resnet18(weights=None).eval()
    images = torch.randn(2, 3, 84, 84)
    assert taps.offset(model, "relu", images) == (0.25, 0.25)
    assert taps.offset(model, "layer1", images) == (0.125, 0.125)


def test_down_and_across_are_not_taken_for_each_other():
    model = stack(nn.Conv2d(3, 4, 3, stride=(1, 2), padding=1))
    assert taps.offset(model, "0", torch.randn(2, 3, 20, 24)) == (0.5, 0.25)


def test_a_location_may_leave_pixels_out():
    skipping = stack(nn.Conv2d(3, 4, 1, stride=2))
    assert taps.offset(skipping, "0", torch.randn(1, 3, 20, 24)) == (0.25, 0.25)


class Refusing(nn.Module):
    """What comes after the layer takes no NaN."""

    def __init__(self):
        super().__init__()
        self.local = nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def forward(self, x):
        return torch.distributions.Categorical(logits=self.local(x).flatten(1)).logits


def test_what_comes_after_the_layer_is_not_run():
    model = Refusing().eval()
    assert taps.offset(model, "local", torch.randn(2, 3, 20, 24)) == (0.25, 0.25)
    assert hooks(model) == 0


def test_what_has_no_place_is_in_the_middle_of_its_cell():
    images = torch.randn(2, 3, 40, 40)
    far = stack(nn.Conv2d(3, 4, 41, stride=2, padding=20))
    assert taps.offset(far, "0", images) == (0.5, 0.5)
    undivided = stack(nn.Conv2d(3, 4, 3, stride=3))
    assert taps.offset(undivided, "0", images) == (0.5, 0.5)
    assert taps.offset(Small().eval(), "first", torch.randn(2, 5, 3)) == (0.5, 0.5)
    flat = stack(nn.Conv2d(3, 4, (22, 3), padding=(0, 1)))
    assert taps.offset(flat, "0", torch.randn(64, 3, 22, 64)) == (0.5, 0.5)
    mixed = stack(nn.GroupNorm(1, 3), nn.Conv2d(3, 4, 3, stride=2, padding=1))
    assert taps.offset(mixed, "1", images) == (0.5, 0.5)
    numbers = stack(nn.Embedding(9, 4))
    assert taps.offset(numbers, "0", torch.randint(9, (2, 7))) == (0.5, 0.5)


def test_a_part_that_may_heed_its_mode_is_refused_in_training_mode():
    class Dropping(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x, 0.5, self.training)

    for part in (Dropping(), nn.LSTM(4, 4, 2, dropout=0.5), nn.RReLU()):
        model = nn.Sequential(nn.Linear(3, 4), part)
        with pytest.raises(ValueError, match="'1'.* is in training mode"), taps.frozen(model):
            pass
        with taps.frozen(model.eval()):
            pass
    old = nn.Sequential(nn.utils.spectral_norm(nn.Linear(3, 4)))
    with pytest.raises(ValueError, match="is in training mode"), taps.frozen(old):
        pass


def test_a_container_of_torch_itself_may_be_fresh():
    with taps.frozen(nn.Sequential(Small().eval(), nn.Linear(4, 2), nn.ReLU())) as model:
        assert model(torch.randn(2, 3)).shape == (2, 2)


def test_batch_norm_without_statistics_is_refused():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False)).eval()
    with pytest.raises(ValueError, match="'1' .*no running statistics"), taps.frozen(model):
        pass


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("last", torch.zeros(2))

    def forward(self, x):
        self.seen += 1
        self.last = x.mean(0)
        return x


def test_what_a_pass_writes_to_buffers_is_put_back():
    model = Counting().eval()
    last = model.last
    with taps.frozen(model):
        model(torch.ones(3, 2))
        assert model.seen == 1 and model.last.sum() == 2
    assert model.seen == 0 and model.last is last and last.sum() == 0


def test_a_model_that_stays_where_it_is_is_not_moved(monkeypatch):
    model = nn.Sequential(nn.Linear(3, 4))
    model.unused = nn.Linear(2, 2, device="meta")
    monkeypatch.setattr(nn.Module, "to", lambda *_: pytest.fail("moved"))
    with taps.frozen(model.eval(), torch.device("cpu")):
        assert not model[0].weight.requires_grad
    assert model[0].weight.requires_grad


def test_the_flags_of_a_model_of_inference_mode_are_left_alone():
    with torch.inference_mode():
        model = nn.Linear(3, 4).eval()
    with taps.frozen(model), torch.no_grad():
        model(torch.randn(2, 3))
    assert model.weight.requires_grad


class Finite(nn.Module):
    def __init__(self):
        super().__init__()
        self.local = nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def forward(self, x):
        if not x.isfinite().all():
            raise ValueError("these are no numbers")
        return self.local(x)


def test_a_model_that_refuses_nan_looks_at_the_middle():
    assert taps.offset(Finite().eval(), "local", torch.randn(2, 3, 20, 24)) == (0.5, 0.5)
