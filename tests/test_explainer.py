"""MILR on small models: what it learns, what it leaves alone, what it refuses."""

import copy
import hashlib
import math
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import nn
from torch.utils.checkpoint import checkpoint

from milr import MILR, NotFitted
from milr.distributed import make_fabric
from milr.fitting import is_shut


class Convolutional(nn.Module):
    """Sees four patches; only what it pools reaches z."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 1)
        self.norm = nn.BatchNorm2d(6)
        self.later = nn.Conv2d(6, 8, 2, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        return self.head(self.pool(self.later(x).relu()).flatten(1))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 8)
        self.mix = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.summary = nn.Identity()

    def forward(self, x):
        return self.summary(self.mix(self.embed(x)).mean(1))


def batches(shape, count=12, size=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        images = torch.randn(size, *shape, generator=generator)
        yield images, torch.randint(2, (size,), generator=generator)


def cross_entropy(outputs, batch):
    return F.cross_entropy(outputs, batch[1])


FAST = {
    "steps": 4,
    "critic_steps": 4,
    "critic_batches": 3,
    "moment_batches": 2,
    "bank": 24,
    "progress": False,
}


def fitted(model, *layers, shape=(2, 4, 4), objective=cross_entropy, **settings):
    return MILR(model, *layers, seed=3).fit(list(batches(shape)), objective, **{**FAST, **settings})


@pytest.fixture(scope="module")
def convolutional():
    torch.manual_seed(0)
    return Convolutional().eval()


@pytest.fixture(scope="module")
def explainer(convolutional):
    return fitted(convolutional, "stem", "pool", ("stem", "later"))


def digest(model) -> str:
    tensors = (t.detach().numpy().tobytes() for t in model.state_dict().values())
    return hashlib.sha256(b"".join(tensors)).hexdigest()


def traces(model) -> tuple:
    modules, parameters = list(model.modules()), list(model.parameters())
    return (
        digest(model),
        [m.training for m in modules],
        [p.requires_grad for p in parameters],
        [None if p.grad is None else p.grad.sum().item() for p in parameters],
        sum(len(m._forward_hooks) + len(m._backward_hooks) for m in modules),
    )


def test_the_maps_have_a_number_per_location(explainer):
    images = torch.randn(5, 2, 4, 4)
    maps = explainer.explain(images)
    for name in ("total", "decision", "redundant", "capacity"):
        assert getattr(maps, name).shape == (5, 4, 4)
    assert maps.capacity.min() >= 0
    assert maps.total.max() <= maps.ceiling == pytest.approx(math.log2(25))


def test_maps_of_an_image_do_not_depend_on_its_neighbours(explainer):
    images = torch.randn(5, 2, 4, 4)
    together, alone = explainer.explain(images), explainer.explain(images[2:3])
    in_chunks = explainer.explain(images, batch_size=2)
    for name in ("total", "decision", "capacity"):
        torch.testing.assert_close(getattr(together, name)[2:3], getattr(alone, name))
        torch.testing.assert_close(getattr(together, name), getattr(in_chunks, name))


def test_tokens_are_explained_like_maps():
    torch.manual_seed(0)
    model = Tokens().eval()
    maps = fitted(
        model, "embed", "summary", ("embed", "mix"), shape=(5, 3),
        objective=lambda outputs, batch: F.cross_entropy(outputs[:, :2], batch[1]),
    ).explain(torch.randn(4, 5, 3))  # fmt: skip
    assert maps.total.shape == maps.redundant.shape == (4, 5)


def test_the_model_is_as_before_after_fitting_and_explaining(convolutional):
    convolutional.head.bias.requires_grad_(False)
    convolutional.stem.weight.grad = torch.ones_like(convolutional.stem.weight)
    before = traces(convolutional)
    fitted(convolutional, "stem", "pool").explain(torch.randn(3, 2, 4, 4))
    assert traces(convolutional) == before


def test_the_model_is_as_before_after_an_exception(convolutional):
    before = traces(convolutional)

    def broken(outputs, batch):
        raise KeyError("objective")

    with pytest.raises(KeyError, match="objective"):
        fitted(convolutional, "stem", "pool", objective=broken)
    assert traces(convolutional) == before


def test_the_same_seed_gives_the_same_modules(convolutional, explainer):
    again = fitted(convolutional, "stem", "pool", ("stem", "later"))
    for a, b in zip(
        explainer.state()["inserted"].values(), again.state()["inserted"].values(), strict=True
    ):
        assert torch.equal(a, b)


def test_no_random_numbers_of_a_gpu_are_begun_anew(convolutional, monkeypatch):
    monkeypatch.setattr(torch, "manual_seed", lambda _: pytest.fail("seeds all devices"))
    explainer = MILR(convolutional, "stem", "pool")
    state = explainer.fit(list(batches((2, 4, 4))), cross_entropy, **FAST).state()
    MILR(convolutional, "stem", "pool").load_state(state)


def test_of_a_chunks_features_no_more_is_held_than_its_mask_needs(explainer, monkeypatch):
    steps = []
    for name in ("features", "keep_of"):
        own = getattr(explainer, name)
        monkeypatch.setattr(
            explainer, name, lambda *given, n=name, own=own: [steps.append(n), own(*given)][1]
        )
    explainer.keep(torch.randn(6, 2, 4, 4), batch_size=2)
    assert steps == 3 * ["features", "keep_of"]


def test_fitting_leaves_the_global_random_numbers_alone(convolutional):
    torch.manual_seed(5)
    expected = torch.rand(3)
    data = list(batches((2, 4, 4)))
    torch.manual_seed(5)
    MILR(convolutional, "stem", "pool").fit(data, cross_entropy, **FAST)
    assert torch.equal(torch.rand(3), expected)


def test_what_is_saved_explains_the_same_after_loading(tmp_path, convolutional, explainer):
    images = torch.randn(3, 2, 4, 4)
    explainer.save(tmp_path / "modules.pt")
    other = MILR(convolutional, "stem", "pool", ("stem", "later"), seed=99, beta=7)
    loaded = other.load(tmp_path / "modules.pt")
    assert torch.equal(loaded.explain(images).decision, explainer.explain(images).decision)
    assert loaded.history == explainer.history
    assert (loaded.seed, loaded.beta) == (explainer.seed, explainer.beta)
    assert [p.name for p in tmp_path.iterdir()] == ["modules.pt"]
    with pytest.raises(ValueError, match="make it with the same layers"):
        MILR(convolutional, "stem", "pool").load(tmp_path / "modules.pt")


@pytest.mark.parametrize("critic", ["linear", "concatenated"])
@pytest.mark.parametrize("reading", ["pointwise", "surprise"])
def test_other_critics_are_saved_and_read_in_blocks_as_well(
    tmp_path, convolutional, critic, reading, monkeypatch
):
    def made():
        return MILR(convolutional, "stem", "pool", critic=critic, members=2)

    data, images = list(batches((2, 4, 4))), torch.randn(5, 2, 4, 4)
    explainer = made().fit(data, cross_entropy, **FAST)
    maps = explainer.explain(images, reading=reading)
    assert maps.total.isfinite().all() and not torch.equal(maps.total, maps.decision)
    explainer.save(tmp_path / "modules.pt")
    monkeypatch.setattr("milr.infonce.BLOCK", 5 * 24 * 3)
    loaded = made().load(tmp_path / "modules.pt").explain(images, reading=reading)
    torch.testing.assert_close(loaded.total, maps.total, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(loaded.decision, maps.decision, atol=1e-5, rtol=1e-4)


def test_the_total_is_the_mean_of_what_each_critic_reads(convolutional):
    images = torch.randn(5, 2, 4, 4)
    both = MILR(convolutional, "stem", "pool", members=2, seed=3)
    both.fit(list(batches((2, 4, 4))), cross_entropy, **FAST)
    alone = [both.explain(images)]
    for kept in (0, 1):
        one = copy.deepcopy(both)
        for name in ("total", "decision", "total_bank", "decision_bank"):
            held = getattr(one._inserted, name)
            setattr(one._inserted, name, held[kept : kept + 1])
        alone.append(one.explain(images))
    mean, first, second = (maps.total for maps in alone)
    assert not torch.allclose(first, second, atol=1e-3)
    torch.testing.assert_close(mean, (first + second) / 2)


def test_a_second_fit_forgets_the_first_and_one_that_fails_does_not(convolutional):
    images = torch.randn(3, 2, 4, 4)
    twice = fitted(convolutional, "stem", "pool", steps=2)
    before = twice.explain(images).decision
    with pytest.raises(ValueError, match="bank"):
        twice.fit(list(batches((2, 4, 4))), cross_entropy, **FAST | {"bank": 0})
    assert torch.equal(twice.explain(images).decision, before)
    twice.fit(list(batches((2, 4, 4))), cross_entropy, **FAST)
    once = fitted(convolutional, "stem", "pool")
    assert torch.equal(twice.explain(images).decision, once.explain(images).decision)


def test_with_a_ramp_the_mask_closes_later(convolutional):
    def unchanged(outputs, batch):
        return 3000 * (outputs - convolutional(batch[0])).square().mean()

    def keep_of(ramp):
        explainer = MILR(convolutional, "stem", "pool", beta=1.0, seed=3)
        how = FAST | {"steps": 40, "learning_rate": 0.01, "ramp": ramp}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return explainer.fit(list(batches((2, 4, 4))), unchanged, **how).history["keep"]

    sudden, slow = keep_of(0.0), keep_of(1.0)
    assert sudden[10] < slow[10] - 0.2


def test_files_that_would_mean_nothing_are_refused(tmp_path, convolutional, explainer):
    path = tmp_path / "modules.pt"
    explainer.save(path)
    retrained = copy.deepcopy(convolutional)
    with torch.no_grad():
        retrained.head.bias.add_(1e-3)
    layers = "stem", "pool", ("stem", "later")
    with pytest.raises(ValueError, match="a model with other weights"):
        MILR(retrained, *layers).load(path)
    whole = path.read_bytes()
    foreign = tmp_path / "foreign.pt"
    torch.save({"weights": torch.zeros(2)}, foreign)
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.pt").write_text("not a file of torch")
    torch.save(torch.zeros(2), tmp_path / "tensor.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    for name in ("foreign.pt", "cut.pt", "text.pt", "tensor.pt", "list.pt"):
        other = MILR(convolutional, *layers)
        with pytest.raises(ValueError, match="not a file that MILR.save wrote"):
            other.load(tmp_path / name)
        with pytest.raises(NotFitted):
            other.explain(torch.randn(2, 2, 4, 4))


def test_a_disk_that_refuses_leaves_the_file_that_was_there(tmp_path, explainer, monkeypatch):
    path = tmp_path / "modules.pt"
    explainer.save(path)
    before = path.read_bytes()

    def full(_, file):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        explainer.save(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["modules.pt"]


class FourBits(nn.Module):
    """A bit in each of four patches: z holds the first two, and the first alone decides."""

    def __init__(self):
        super().__init__()
        self.local = nn.Identity()
        self.z = nn.Flatten()

    def forward(self, x):
        place = torch.eye(4).reshape(1, 4, 2, 2).expand(len(x), 4, 2, 2)
        local = self.local(torch.cat([x, place], 1))
        return 3 * self.z(local[:, 0, 0, :])


def bits(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, (count, 1, 2, 2), generator=generator).float() * 2 - 1


def first_bit(outputs, batch):
    return F.binary_cross_entropy_with_logits(outputs[:, 0], (batch[:, 0, 0, 0] > 0).float())


@pytest.fixture(scope="module")
def fitted_to_bits():
    explainer = MILR(FourBits().eval(), "local", "z", beta=0.05)
    data = [bits(64, seed) for seed in range(40)]
    return explainer.fit(data, first_bit, steps=300, critic_steps=300, bank=256, progress=False)


@pytest.fixture(scope="module")
def four_bits(fitted_to_bits):
    maps = fitted_to_bits.explain(bits(256, 99), draws=8)
    return {
        name: getattr(maps, name).mean(0).flatten()
        for name in ("total", "decision", "redundant", "capacity")
    }


def test_total_information_of_independent_bits_is_known(four_bits):
    """Each of the two bits in z has one bit of information about it, the others none."""
    assert four_bits["total"].tolist() == pytest.approx([1, 1, 0, 0], abs=0.05)


def test_only_the_bit_that_decides_passes_the_bottleneck(four_bits):
    # Less than the bit itself: the critic is shared by all locations, and what the bottleneck
    # closes elsewhere looks much like what it passes here.
    assert four_bits["decision"][0] > 0.4
    assert four_bits["decision"][1:].abs().max() < 0.1
    assert (four_bits["capacity"] >= four_bits["decision"] - 0.01).all()


def test_the_bit_that_is_known_but_does_not_decide_is_redundant(four_bits):
    assert four_bits["redundant"][1] > 0.8
    assert four_bits["redundant"].argmax() == 1


def test_the_surprise_of_independent_bits_is_known_for_every_image(fitted_to_bits):
    """Pointwise or not, a bit tells a bit; what is no part of z moves no belief about it."""
    maps = fitted_to_bits.explain(bits(64, 99), draws=8, reading="surprise")
    total, decision = (m.flatten(1) for m in (maps.total, maps.decision))
    assert total[:, :2].mean(0).tolist() == pytest.approx([1, 1], abs=0.05)
    assert float(total[:, 2:].max()) < 0.05 and float(total.min()) >= 0
    assert float(decision[:, 0].min()) > 5 * float(decision[:, 1:].max()) >= 0
    assert maps.ceiling == pytest.approx(8)


def test_the_surprise_of_an_image_does_not_depend_on_the_images_beside_it(explainer):
    images = torch.randn(5, 2, 4, 4)
    together = explainer.explain(images, reading="surprise")
    alone = explainer.explain(images[3:4], reading="surprise")
    assert torch.allclose(alone.decision, together.decision[3:4], atol=1e-5)
    assert torch.allclose(alone.total, together.total[3:4], atol=1e-5)
    with pytest.raises(
        ValueError, match="reading is 'loud'; it must be one of pointwise, surprise"
    ):
        explainer.explain(images, reading="loud")


def test_blocks_of_locations_make_no_difference_to_the_surprise(explainer, monkeypatch):
    images = torch.randn(5, 2, 4, 4)
    whole = explainer.explain(images, reading="surprise")
    monkeypatch.setattr("milr.infonce.BLOCK", 5 * 24 * 3)
    parts = explainer.explain(images, reading="surprise")
    assert torch.allclose(parts.decision, whole.decision, atol=1e-6)


def test_held_out_bounds_come_with_an_error_and_respect_the_ceiling(explainer):
    for name in ("held out total", "held out decision"):
        value, error = explainer.history[name]
        assert value <= math.log(6) and error >= 0
    assert len(explainer.history["nats"]) == FAST["steps"]


def test_the_bottleneck_disturbs_the_outputs_and_repeats_a_draw(convolutional, explainer):
    images = torch.randn(6, 2, 4, 4)
    first, again = explainer.through(images), explainer.through(images)
    assert torch.equal(first, again)
    assert not torch.equal(first, explainer.through(images, draw=1))
    assert not torch.equal(first, convolutional(images))
    assert explainer.keep(images).shape == (6, 16, 6)


def test_an_images_draw_is_by_its_place_whatever_is_asked_at_once():
    """torch draws by 16 numbers, of which the 150 that an image takes are no multiple."""
    model = nn.Sequential(nn.Conv2d(2, 6, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    explainer = fitted(model, "0", "1", shape=(2, 5, 5), objective=lambda o, _: o.square().mean())
    images = torch.randn(6, 2, 5, 5)
    first = explainer.through(images)
    for size in (1, 4):
        torch.testing.assert_close(explainer.through(images, batch_size=size), first)
    torch.testing.assert_close(explainer.through(images[:3]), first[:3])


def test_a_shut_bottleneck_raises_an_alarm(convolutional):
    with pytest.warns(UserWarning, match="has shut.*lower beta"):
        MILR(convolutional, "stem", "pool", beta=1e4).fit(
            list(batches((2, 4, 4))), cross_entropy,
            **{**FAST, "steps": 60, "learning_rate": 0.3},
        )  # fmt: skip


def test_what_is_shut_is_known_later(convolutional, explainer):
    assert not explainer.shut
    explainer = MILR(convolutional, "stem", "pool")
    with pytest.raises(NotFitted):
        explainer.shut  # noqa: B018


@pytest.mark.parametrize(
    ("nats", "shut"), [([9, 9] + 5 * [0.01], True), ([0.0] * 9 + [0.9], False), ([], False)]
)
def test_shut_is_what_let_nothing_through_at_the_end(nats, shut):
    assert is_shut({"nats": nats}) == shut


def test_layers_that_do_not_put_the_images_first_are_refused(tokens_first):
    with pytest.raises(ValueError, match="'tokens' gives .* for 8 images; the first dimension"):
        MILR(tokens_first, "tokens", "z").features(torch.randn(8, 5, 3))


def test_wrong_use_is_refused_with_what_to_do(convolutional, explainer):
    new, images = MILR(convolutional, "stem", "pool"), torch.randn(2, 2, 4, 4)
    asked = [
        lambda: new.explain(images), lambda: new.through(images), lambda: new.keep(images),
        lambda: new.refine(images, first_bit), lambda: new.refine_keep(images, first_bit),
        lambda: new.save("nowhere.pt"), new.state, lambda: new.around(convolutional),
    ]  # fmt: skip
    for ask in asked:
        with pytest.raises(NotFitted, match="call fit"):
            ask()
    with pytest.raises(OSError):
        new.load("nowhere.pt")
    with pytest.raises(ValueError, match="no layer 'stm'.*stem"):
        MILR(convolutional, "stm", "pool")
    with pytest.raises(ValueError, match="beta is 0"):
        MILR(convolutional, "stem", "pool", beta=0)
    with pytest.raises(ValueError, match="critic is 'bilinear'"):
        MILR(convolutional, "stem", "pool", critic="bilinear")
    with pytest.raises(ValueError, match="evidence is 'later'; give the names in a tuple"):
        MILR(convolutional, "stem", "pool", "later")
    with pytest.raises(ValueError, match="device is 'gpu'; this machine offers cpu"):
        MILR(convolutional, "stem", "pool", device="gpu")
    with pytest.raises(ValueError, match="draws is 0; give 1 or more"):
        explainer.explain(torch.randn(2, 2, 4, 4), draws=0)
    with pytest.raises(ValueError, match="batch_size is 0; give 1 or more"):
        explainer.total(torch.randn(2, 2, 4, 4), batch_size=0)
    with pytest.raises(ValueError, match="give images of one size"):
        explainer.explain(torch.randn(2, 2, 6, 6))
    with pytest.raises(ValueError, match="NaN or infinite features"):
        explainer.explain(torch.full((2, 2, 4, 4), torch.nan))


def test_an_objective_that_nothing_can_be_learned_from_is_refused(convolutional, explainer):
    images = torch.randn(3, 2, 4, 4)

    def wrong(outputs, batch):
        return (outputs.argmax(1) != 0).float().mean()

    with pytest.raises(ValueError, match="the objective has no gradient.*not accuracy"):
        MILR(convolutional, "stem", "pool").fit(list(batches((2, 4, 4))), wrong, **FAST)
    with pytest.raises(ValueError, match="the objective has no gradient"):
        explainer.refine(images, wrong)


def test_batches_that_cannot_work_are_refused(convolutional):
    def fit(data, **settings):
        return MILR(convolutional, "stem", "pool").fit(data, cross_entropy, **{**FAST, **settings})

    with pytest.raises(ValueError, match="batch of one image"):
        fit(list(batches((2, 4, 4), size=1)))
    with pytest.raises(ValueError, match="change between batches"):
        fit(list(batches((2, 4, 4), 1)) + list(batches((2, 6, 6), 1)))
    with pytest.raises(ValueError, match="ended after 5"):
        fit(batches((2, 4, 4), 5))
    with pytest.raises(ValueError, match="loss became nan"):
        MILR(convolutional, "stem", "pool").fit(
            list(batches((2, 4, 4))), lambda outputs, batch: outputs.sum() * torch.nan, **FAST
        )


@pytest.mark.parametrize("good", [3, 7])
def test_an_odd_batch_is_refused_wherever_it_comes(convolutional, good):
    """After the two batches of the moments, in the mask's turn; and after that, in the critics'."""
    usual = list(batches((2, 4, 4), count=good))
    larger, alone = (list(batches(s, 1, n)) for s, n in (((2, 6, 6), 16), ((2, 4, 4), 1)))
    for odd, words in ((larger, "change between batches"), (alone, "batch of one image")):
        with pytest.raises(ValueError, match=words):
            MILR(convolutional, "stem", "pool").fit(usual + odd, cross_entropy, **FAST)


def test_a_bank_or_moments_that_cannot_do_are_refused_at_once(convolutional):
    def fit(**settings):
        data = iter([])  # nothing may be asked of it
        return MILR(convolutional, "stem", "pool").fit(data, cross_entropy, **{**FAST, **settings})

    with pytest.raises(ValueError, match="bank is 7; give at least 8"):
        fit(bank=7)
    with pytest.raises(ValueError, match="moment_batches is 0; give 1"):
        fit(moment_batches=0)
    with pytest.raises(ValueError, match="critic_batches is 0; give 1"):
        fit(critic_batches=0)
    with pytest.raises(ValueError, match="hidden is 1; give a share of z from 0 to below 1"):
        fit(hidden=1)


def test_a_bank_of_any_size_gives_bounds_with_an_error(convolutional):
    for bank in (9, 13):
        found = fitted(convolutional, "stem", "pool", bank=bank)
        assert math.isfinite(found.history["held out total"][1])


class Placed:
    """Labels that know whether they were brought to the device."""

    def __init__(self, values, device=None):
        self.values, self.device = values, device

    def to(self, device, **_):
        return Placed(self.values, torch.device(device))


def test_the_objective_gets_its_whole_batch_on_the_device(convolutional):
    def objective(outputs, batch):
        assert batch["labels"].device == outputs.device
        return F.cross_entropy(outputs, batch["labels"].values)

    data = [{"images": x, "labels": Placed(y)} for x, y in batches((2, 4, 4))]
    explainer = MILR(convolutional, "stem", "pool").fit(data, objective, **FAST)
    explainer.refine(data[0], objective, steps=1)


def test_a_model_in_training_mode_with_batch_norm_is_refused(convolutional):
    convolutional.train()
    try:
        with pytest.raises(ValueError, match="training mode"):
            fitted(convolutional, "stem", "pool")
    finally:
        convolutional.eval()


def test_opposite_draws_cancel_the_noise_of_a_linear_critic():
    """Two draws then say almost what fifty say; a single draw is far from it."""
    torch.manual_seed(0)
    explainer = MILR(Convolutional().eval(), "norm", "pool", critic="linear", seed=3)
    data = list(batches((2, 4, 4), size=32))
    explainer.fit(data, cross_entropy, **FAST | {"critic_steps": 40, "critic_batches": 12})
    images = torch.cat([images for images, _ in data[:3]])
    one, two, many = (explainer.explain(images, draws=n).decision for n in (1, 2, 50))
    spread = many.std()
    assert (two - many).std() < 0.2 * spread
    assert (one - many).std() > 2 * (two - many).std()


def test_refining_for_another_objective_moves_the_mask_there(fitted_to_bits):
    def second_bit(outputs, batch):
        return F.binary_cross_entropy_with_logits(outputs[:, 1], (batch[:, 0, 0, 1] > 0).float())

    before = hashlib.sha256(repr(fitted_to_bits.state()).encode()).hexdigest()
    images = bits(64, 99)
    inferred = fitted_to_bits.explain(images).capacity.mean(0).flatten()
    settings = {"steps": 30, "learning_rate": 0.5}
    same, other = (
        fitted_to_bits.refine(images, objective, **settings).capacity.mean(0).flatten()
        for objective in (first_bit, second_bit)
    )
    assert inferred.argmax() == 0 and same.argmax() == 0
    assert other.argmax() == 1
    assert hashlib.sha256(repr(fitted_to_bits.state()).encode()).hexdigest() == before


@pytest.mark.parametrize("count", [6, 256])
def test_a_refined_mask_does_not_depend_on_how_many_stand_beside_it(fitted_to_bits, count):
    """Nor on where it is all but shut, and gradients are small beside the epsilon of Adam."""
    images = bits(count, 99)
    several, alone = (fitted_to_bits.refine_keep(some, first_bit) for some in (images, images[:1]))
    torch.testing.assert_close(several[:1], alone, atol=1e-5, rtol=1e-2)


def test_in_lower_precision_the_model_alone_computes_with_less():
    def fit(precision):
        explainer = MILR(Convolutional().eval(), "norm", "pool", critic="linear", seed=3)
        fabric = make_fabric("cpu", precision=precision)
        return explainer.fit(list(batches((2, 4, 4))), cross_entropy, fabric=fabric, **FAST)

    torch.manual_seed(0)
    full = fit("32-true")
    torch.manual_seed(0)
    half = fit("bf16-mixed")
    # A keep of 0.95, where all begin, would be 0.949 in bfloat16.
    assert half.history["keep"][0] == pytest.approx(full.history["keep"][0], rel=1e-4)
    assert half.history["total"] == pytest.approx(full.history["total"], abs=2e-2)
    assert half.history["loss"] != full.history["loss"]
    learned = [value for value in half.state()["inserted"].values() if value.is_floating_point()]
    assert learned and all(value.dtype == torch.float32 for value in learned)


def test_a_precision_in_which_the_critics_cannot_learn_is_refused_at_once(convolutional):
    fabric = Fabric(accelerator="cpu", precision="bf16-true")
    explainer = MILR(convolutional, "stem", "pool")
    data = iter(batches((2, 4, 4)))
    with pytest.raises(ValueError, match="precision is bf16-true.*32-true, bf16-mixed"):
        explainer.fit(data, cross_entropy, fabric=fabric, **FAST)
    assert next(data) is not None


def test_maps_can_be_read_behind_any_mask(fitted_to_bits):
    images = bits(8)
    inferred = fitted_to_bits.keep(images)
    plain, again, shut = (
        fitted_to_bits.explain(images, batch_size=3, keep=keep)
        for keep in (None, inferred, torch.zeros_like(inferred))
    )
    torch.testing.assert_close(again.decision, plain.decision)
    torch.testing.assert_close(shut.total, plain.total)
    assert shut.capacity.abs().max() == 0 and plain.capacity.max() > 0.1
    with pytest.raises(ValueError, match=r"keep has shape \(7, .*one number for each image"):
        fitted_to_bits.explain(images, keep=inferred[:7])
    for wrong in (1.5, -0.1, math.nan):
        with pytest.raises(ValueError, match="give shares between 0"):
            fitted_to_bits.explain(images, keep=torch.full_like(inferred, wrong))


def test_refining_without_a_step_is_explaining(fitted_to_bits):
    images = bits(64, 99)
    plain, refined = (
        fitted_to_bits.explain(images),
        fitted_to_bits.refine(images, first_bit, steps=0),
    )
    assert torch.equal(refined.capacity, plain.capacity)
    torch.testing.assert_close(refined.total, plain.total)


class InPlace(nn.Module):
    """A residual block as torchvision has them: all that follows its layers works in place."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 2, 1)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(2, 2)

    def forward(self, x):
        out = self.stem(x)
        out += x
        return self.head(self.pool(self.relu(out)).flatten(1))


def test_features_are_those_of_their_layer_whatever_is_done_to_them_in_place():
    model = InPlace().eval()
    explainer = MILR(model, "stem", "pool", ("stem",))
    images = torch.randn(4, 2, 5, 5)
    with torch.no_grad():
        features = explainer.features(images)
        local = features.local.clone()
        torch.testing.assert_close(local, model.stem(images).flatten(2).mT)
        torch.testing.assert_close(explainer.run_with(images, features.local), model(images))
    assert torch.equal(features.local, local)


class Strided(nn.Module):
    """Its locations look at every other pixel, from the first one on."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, stride=2, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.pool(self.stem(x).relu()).flatten(1))


def test_maps_know_where_their_locations_look_also_after_loading(tmp_path):
    model = Strided().eval()
    explainer = fitted(model, "stem", "pool", shape=(2, 12, 12))
    images = next(batches((2, 12, 12), 1))[0]
    assert explainer.explain(images).offset == (0.25, 0.25)
    explainer.save(tmp_path / "modules.pt")
    again = MILR(model, "stem", "pool").load(tmp_path / "modules.pt")
    assert again.explain(images).offset == (0.25, 0.25)


def test_without_steps_the_bottleneck_stays_open(convolutional):
    explainer = fitted(convolutional, "stem", "pool", steps=0)
    images = next(batches((2, 4, 4), 1))[0]
    assert float(explainer.keep(images).min()) > 0.9
    assert (
        explainer.history["keep"] == [] and len(explainer.history["total"]) == FAST["critic_steps"]
    )
    assert explainer.explain(images).total.isfinite().all()


@pytest.mark.parametrize("reading", ["pointwise", "surprise"])
def test_the_total_alone_is_that_of_all_maps(convolutional, explainer, reading):
    images = torch.randn(5, 2, 4, 4)
    expected = explainer.explain(images, reading=reading).total
    found = explainer.total(images, batch_size=3, reading=reading)
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match="give images of one size"):
        explainer.total(images[:, :, :2], reading=reading)
    for ask in (explainer.total, explainer.explain, explainer.keep):
        with pytest.raises(ValueError, match="there are no images"):
            ask(images[:0])
    with pytest.raises(ValueError, match="pointwise, surprise"):
        explainer.total(images, reading="loud")
    with pytest.raises(NotFitted):
        MILR(convolutional, "stem", "pool").total(images)
    with pytest.raises(NotFitted):
        _ = MILR(convolutional, "stem", "pool").offset


class Viewing(nn.Module):
    """Flattens by a view, which only some orders in memory allow."""

    def __init__(self):
        super().__init__()
        self.stem, self.later = nn.Conv2d(2, 6, 1), nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(96, 2)

    def forward(self, x):
        x = self.later(self.stem(x).relu())
        return self.head(x.view(x.size(0), -1))


@pytest.mark.parametrize("layer", ["stem", "later"])
def test_a_model_that_takes_a_view_can_be_explained(layer):
    explainer = fitted(Viewing().eval(), layer, "head")
    batch = next(batches((2, 4, 4)))
    assert explainer.through(batch[0]).isfinite().all()
    assert explainer.refine(batch, cross_entropy, steps=1).decision.isfinite().all()


class Widths(nn.Module):
    """Two layers of any widths before a z of 4 numbers."""

    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = nn.Conv2d(2, first, 1), nn.Conv2d(first, second, 1)
        self.z, self.head = nn.Conv2d(second, 4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.z(self.second(self.first(x))).flatten(1))


def test_around_a_model_with_layers_of_other_widths_nothing_is_said():
    explainer = fitted(Widths(6, 5).eval(), "first", "z", ("first", "second"))
    images = torch.randn(3, 2, 4, 4)
    assert explainer.around(Widths(6, 5).eval()).explain(images).total.isfinite().all()
    for widths, said in (
        ((1, 5), "the local features have 1 channels, but had 6 before; give a model"),
        ((16, 5), "the local features have 16 channels, but had 6"),
        ((6, 1), "the evidence 1 features have 1 channels, but had 5"),
    ):
        other = explainer.around(Widths(*widths).eval())
        for ask in (other.explain, other.total, other.through, other.keep):
            with pytest.raises(ValueError, match=said):
                ask(images)


class Checkpointed(nn.Module):
    """Computes its middle anew in the backward pass, if it is told so."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 1)
        self.middle = nn.Sequential(nn.Conv2d(6, 6, 1), nn.Sigmoid(), nn.Conv2d(6, 2, 4))
        self.how = None

    def forward(self, x):
        x = self.stem(x)
        x = self.middle(x) if self.how is None else checkpoint(self.middle, x, **self.how)
        return x.flatten(1)


# That no input has a gradient, which is so.
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
@pytest.mark.parametrize(
    ("again", "said"),
    [
        (False, "under activation checkpointing.*a layer outside"),
        (True, "checkpoint.*switch it off"),
    ],
)
def test_a_layer_that_is_computed_anew_in_the_backward_pass_is_refused(again, said):
    model = Checkpointed().eval()
    explainer = fitted(model, "middle.0", "middle")
    model.how = {"use_reentrant": again}
    with pytest.raises(ValueError, match=said):
        fitted(model, "middle.0", "middle")
    with pytest.raises(ValueError, match=said):
        explainer.refine(next(batches((2, 4, 4))), cross_entropy)
    fitted(model, "stem", "middle")


def test_what_is_added_to_a_states_history_is_not_added_to_the_explainers(convolutional, explainer):
    state, count = explainer.state(), len(explainer.history["loss"])
    other = MILR(convolutional, "stem", "pool", ("stem", "later")).load_state(state)
    state["history"]["loss"].append(0.0)
    assert len(explainer.history["loss"]) == len(other.history["loss"]) == count


def test_numpys_whole_numbers_are_saved_as_any_others(tmp_path, convolutional):
    settings = {"members": np.int64(1), "masks": np.int64(1), "seed": np.int64(3)}
    made = MILR(convolutional, "stem", "pool", **settings)
    made.fit(list(batches((2, 4, 4))), cross_entropy, **FAST).save(tmp_path / "modules.pt")
    loaded = MILR(convolutional, "stem", "pool", members=1).load(tmp_path / "modules.pt")
    images = torch.randn(3, 2, 4, 4)
    assert torch.equal(loaded.explain(images).decision, made.explain(images).decision)
