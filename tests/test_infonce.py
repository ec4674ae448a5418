"""Bounds against exact truth: enumeration of small discrete spaces and closed forms."""

import itertools
import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from milr.infonce import (
    CRITICS,
    FORMS,
    critic_bound,
    lower_bound,
    make_critic,
    pointwise,
    pointwise_against,
)

NEVER = -60.0  # log of a probability ratio that is 0


def information(joint: torch.Tensor) -> float:
    """I(x; z) in nats of a joint table (x, z)."""
    ratio = joint / (joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True))
    return float(torch.xlogy(joint, ratio).sum())


def expected(joint: torch.Tensor, critics: torch.Tensor, k: int, form: str) -> float:
    """Exact expectation of a bound over all batches of k independent samples.

    joint: probabilities (x_1, ..., x_N, z); critics: (N, X, Z) tables of f at each location.
    """
    support = torch.tensor(list(itertools.product(*map(range, joint.shape))))
    weights = joint.flatten()
    support, weights = support[weights > 0], weights[weights > 0]
    total = 0.0
    for batch in itertools.product(range(len(support)), repeat=k):
        x, z = support[list(batch), :-1], support[list(batch), -1]
        locations = torch.arange(x.shape[1])
        scores = critics[locations[None, :, None], x[:, :, None], z[None, None, :]]
        total += float(weights[list(batch)].prod() * FORM_VALUES[form](scores))
    return total


def deep_infomax_without_own_locations(scores: torch.Tensor) -> torch.Tensor:
    """The normaliser 1 + N (K - 1): common in code, and no bound."""
    k, n, _ = scores.shape
    own = torch.diagonal(scores, dim1=0, dim2=2)
    mask = torch.eye(k, dtype=torch.bool)[:, None]
    others = scores.masked_fill(mask, -math.inf).logsumexp((0, 1))
    return (own - torch.logaddexp(own, others) + math.log(1 + n * (k - 1))).mean()


FORM_VALUES = {form: lambda scores, form=form: lower_bound(scores, form) for form in FORMS}
FORM_VALUES["own locations dropped"] = deep_infomax_without_own_locations


def symmetric_channel(flip: float) -> torch.Tensor:
    return torch.tensor([[1 - flip, flip], [flip, 1 - flip]], dtype=torch.float64) / 2


def optimal(joint: torch.Tensor) -> torch.Tensor:
    ratio = joint / (joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True))
    return ratio.log().clamp(min=NEVER)


def expected_binary(joint: torch.Tensor, critic: torch.Tensor, k: int) -> float:
    """Exact V0 for a symmetric pair of bits and any k: the negatives that agree are binomial."""
    total = 0.0
    for agree, ones in itertools.product((0, 1), range(k)):
        own = critic[0, 0] if agree else critic[0, 1]
        negatives = [critic[0, 0]] * ones + [critic[0, 1]] * (k - 1 - ones)
        column = torch.stack([own, *negatives])
        scores = column[:, None, None].expand(k, 1, k).clone()
        probability = 2 * float(joint[0, 0] if agree else joint[0, 1])
        probability *= math.comb(k - 1, ones) / 2 ** (k - 1)
        total += probability * float(pointwise(scores)[0, 0])
    return total


FAIR_BIT = symmetric_channel(0.0)


@pytest.mark.parametrize(
    "flip, k, truth",
    [(0.0, 2, 0.346574), (0.0, 16, 0.660820), (0.1, 2, 0.184032), (0.1, 16, 0.347648),
     (0.26, 2, 0.060045), (0.26, 16, 0.112839)],
)  # fmt: skip
def test_the_optimal_critic_of_a_binary_channel_reads_its_known_value(flip, k, truth):
    joint = symmetric_channel(flip)
    assert expected_binary(joint, optimal(joint), k) == pytest.approx(truth, abs=1e-6)


@pytest.mark.parametrize("flip, truth", [(0.1, 0.368064), (0.26, 0.120090)])
def test_information_of_a_binary_channel(flip, truth):
    assert information(symmetric_channel(flip)) == pytest.approx(truth, abs=1e-6)


def test_reusing_the_critic_of_x_on_what_passes_the_bottleneck_overstates_redundancy():
    """Derivations, section 5: .0128 read where its own critic reads .1128."""
    passed = symmetric_channel(0.26)
    reused = expected_binary(passed, optimal(symmetric_channel(0.1)), 16)
    own = expected_binary(passed, optimal(passed), 16)
    assert reused == pytest.approx(0.0128, abs=1e-4)
    assert own == pytest.approx(0.1128, abs=1e-4)


def test_two_independent_bits_read_their_known_values_in_both_forms():
    joint = torch.zeros(2, 2, 4, dtype=torch.float64)
    critics = torch.full((2, 2, 4), NEVER, dtype=torch.float64)
    for a, b in itertools.product((0, 1), repeat=2):
        joint[a, b, 2 * a + b] = 0.25
        critics[0, a, 2 * a + b] = critics[1, b, 2 * a + b] = 0.0
    assert expected(joint, critics, 2, "location") == pytest.approx(0.346574, abs=1e-6)
    assert expected(joint, critics, 2, "paper") == pytest.approx(0.317128, abs=1e-6)


def copies_of_a_bit(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    joint = torch.zeros(*(2,) * n, 2, dtype=torch.float64)
    for bit in (0, 1):
        joint[(bit,) * (n + 1)] = 0.5
    return joint, optimal(FAIR_BIT).expand(n, 2, 2)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_a_normaliser_without_the_samples_own_locations_exceeds_the_truth(n):
    joint, critics = copies_of_a_bit(n)
    value = expected(joint, critics, 2, "own locations dropped")
    assert value == pytest.approx(0.5 * math.log(1 + n), abs=1e-6)
    if n == 4:
        assert value > math.log(2)
    for form in FORMS:
        assert expected(joint, critics, 2, form) <= math.log(2)


@pytest.mark.parametrize("seed", range(8))
def test_every_form_stays_below_the_truth_on_random_distributions_and_critics(seed):
    """V2 <= mean V0 <= mean min(log K, I(x_i; z)), and the pooled form likewise."""
    generator = torch.Generator().manual_seed(seed)
    k, n = (2, 2) if seed % 2 else (3, 1)
    joint = torch.rand((2,) * n + (3,), generator=generator, dtype=torch.float64) ** 3
    joint /= joint.sum()
    critics = 2 * torch.randn(n, 2, 3, generator=generator, dtype=torch.float64)
    tables = [joint.movedim(i, 0).flatten(1, -2).sum(1) if n > 1 else joint for i in range(n)]
    for chosen in (critics, torch.stack([optimal(t) for t in tables])):
        value = {form: expected(joint, chosen, k, form) for form in FORMS}
        truth = sum(min(math.log(k), information(t)) for t in tables) / n
        assert value["paper"] <= value["location"] + 1e-12
        assert value["location"] <= truth + 1e-12
        assert value["pooled"] <= sum(map(information, tables)) / n + 1e-12


def test_pointwise_entries_average_to_the_bound_and_stay_below_log_k():
    scores = 5 * torch.randn(6, 3, 6, generator=torch.Generator().manual_seed(0))
    entries = pointwise(scores)
    assert entries.shape == (6, 3)
    assert entries.mean() == pytest.approx(float(lower_bound(scores)), abs=1e-6)
    assert entries.max() <= math.log(6)
    assert entries.min() < 0


def test_adding_a_function_of_the_representation_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    scores, shift = (torch.randn(s, generator=generator) for s in ((5, 3, 5), (5,)))
    torch.testing.assert_close(pointwise(scores + shift), pointwise(scores))


def small_problem(kind: str):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 5, 4, generator=generator, dtype=torch.float64)
    z = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    torch.manual_seed(0)
    return make_critic(kind, 4, 3, 8).double(), x, z


@pytest.mark.parametrize("kind", CRITICS)
@pytest.mark.parametrize("form", FORMS)
def test_working_in_blocks_gives_the_value_and_gradient_of_all_scores(kind, form, monkeypatch):
    monkeypatch.setattr("milr.infonce.BLOCK", 50)
    critic, x, z = small_problem(kind)
    whole = lower_bound(critic(x, z), form)
    blocks = critic_bound(critic, *critic.embed(x, z), form)
    torch.testing.assert_close(blocks, whole)
    parameters = list(critic.parameters())
    for a, b in zip(
        torch.autograd.grad(whole, parameters), torch.autograd.grad(blocks, parameters), strict=True
    ):
        torch.testing.assert_close(a, b)


class LargestArray(TorchDispatchMode):
    """Notes how many numbers the largest array holds that is made while it is on.

    And how many arrays have as many as `size`, views of what is there not counted.
    """

    numbers, size, count = 0, 0, 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        made = function(*arguments, **(keywords or {}))
        there = {place(one) for one in tree_leaves(arguments) if isinstance(one, torch.Tensor)}
        for one in tree_leaves(made):
            if isinstance(one, torch.Tensor):
                # What is held, and not the shape: an expanded view holds next to nothing.
                held = one.untyped_storage().nbytes() // one.element_size()
                self.numbers = max(self.numbers, held)
                self.count += held == self.size and place(one) not in there
        return made


def place(array: torch.Tensor) -> int:
    return array.untyped_storage().data_ptr()


def largest_of_a_step(critic, x, z, bound) -> int:
    critic.zero_grad()
    with LargestArray() as largest:
        (-bound(x, z)).backward()
    assert all(parameter.grad is not None for parameter in critic.parameters())
    return largest.numbers


@pytest.mark.parametrize("kind", CRITICS)
@pytest.mark.parametrize("form", FORMS)
def test_a_training_step_makes_no_array_above_a_block_or_the_embedded_features(
    kind, form, monkeypatch
):
    """In place of 3136 locations, 256 samples and 128 dimensions, of which memory is asked."""
    k, n, width, block = 64, 49, 16, 2**16
    monkeypatch.setattr("milr.infonce.BLOCK", block)
    monkeypatch.setattr("milr.infonce.LARGE", block // 4)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(k, n, width, generator=generator)
    z = torch.randn(k, width, generator=generator)
    critic = make_critic(kind, width, width, width)
    # The hidden layer of "two-layer" is wider than what it embeds.
    allowed = max(block, k * n * width)

    blocks = largest_of_a_step(
        critic, x, z, lambda x, z: critic_bound(critic, *critic.embed(x, z), form)
    )
    assert blocks == allowed
    whole = largest_of_a_step(critic, x, z, lambda x, z: lower_bound(critic(x, z), form))
    assert whole >= k * n * k > allowed


@pytest.mark.parametrize("kind", CRITICS)
@pytest.mark.parametrize("form", FORMS)
def test_no_block_makes_an_array_as_large_as_all_features(kind, form, monkeypatch):
    """Not as its gradient, either: of 3136 blocks each would write all of them."""
    k, n, width = 8, 60, 16
    critic = make_critic(kind, width, width, width)
    u, v = (torch.randn(*shape, requires_grad=True) for shape in ((k, n, width), (k, width)))
    made = []
    for blocks in (3, n):
        across = width if kind == "concatenated" else 1
        monkeypatch.setattr("milr.infonce.BLOCK", k * k * across * (n // blocks))
        u.grad = v.grad = None
        with LargestArray() as arrays:
            arrays.size = u.numel()
            critic_bound(critic, u, v, form).backward()
        made.append(arrays.count)
    assert made[1] <= made[0] < 12


def test_embedding_in_blocks_changes_neither_the_bound_nor_its_gradients(monkeypatch):
    critic, x, z = small_problem("two-layer")

    def step():
        critic.zero_grad()
        bound = critic_bound(critic, *critic.embed(x, z))
        bound.backward()
        return [bound.detach(), *(weight.grad for weight in critic.parameters())]

    whole = step()
    monkeypatch.setattr("milr.infonce.LARGE", x.numel() // 3)
    torch.testing.assert_close(step(), whole)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_agree_with_finite_differences(form):
    critic, x, z = small_problem("linear")
    u, v = (part.detach().requires_grad_() for part in critic.embed(x[:3, :2], z[:3]))
    assert gradcheck(lambda u, v: critic_bound(critic, u, v, form), (u, v))


@pytest.mark.parametrize("kind", CRITICS)
def test_a_bank_of_the_other_samples_gives_the_same_pointwise_information(kind):
    critic, x, z = small_problem(kind)
    u, v = critic.embed(x, z)
    alone = pointwise_against(critic, u[:1], v[:1], u[1:])
    torch.testing.assert_close(alone, pointwise(critic.score(u, v))[:1])


def test_wrong_input_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"must be \(K, N, K\)"):
        pointwise(torch.zeros(3, 4, 2))
    with pytest.raises(ValueError, match="at least two"):
        lower_bound(torch.zeros(1, 4, 1))
    with pytest.raises(ValueError, match="location, paper, pooled"):
        lower_bound(torch.zeros(2, 1, 2), "dim")
    with pytest.raises(ValueError, match="location, paper, pooled"):
        critic_bound(*small_problem("two-layer"), "dim")
    with pytest.raises(ValueError, match="linear, two-layer, concatenated"):
        make_critic("bilinear", 2, 2)
    critic, x, z = small_problem("linear")
    with pytest.raises(ValueError, match="at least two"):
        critic_bound(critic, *critic.embed(x[:1], z[:1]))
