"""Exact values against closed forms, each other, and the estimators of the method."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from milr import exact, infonce
from milr.bottleneck import capacity

LN2 = math.log(2)
SMALL = settings(max_examples=40, deadline=None)


def probabilities(*shape):
    """Distributions of that shape, some of whose outcomes never occur."""
    weights = arrays(float, shape, elements=st.sampled_from([0.0, 0.1, 0.5, 1.0, 3.0]))
    return weights.filter(lambda w: w.sum() > 0).map(lambda w: w / w.sum())


def tables(*shapes):
    return st.tuples(*(arrays(float, shape, elements=st.floats(-4, 4)) for shape in shapes))


def copies_of_a_bit(n: int) -> np.ndarray:
    return exact.observed(np.full(2, 0.5), [np.eye(2)] * n)


# --- information -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "system, joint, local",
    [("both bits", 2 * LN2, 2 * LN2), ("copies", LN2, 2 * LN2), ("XOR", LN2, 0.0),
     ("AND", 0.562335, 0.431523), ("sum", 1.5 * LN2, LN2)],
)  # fmt: skip
def test_toy_systems_have_their_known_joint_and_local_information(system, joint, local):
    table = exact.toy_systems()[system]
    assert exact.information(table, (0, 1), 2) == pytest.approx(joint, abs=1e-6)
    found = exact.information(table, 0, 2) + exact.information(table, 1, 2)
    assert found == pytest.approx(local, abs=1e-6)


def test_gaussian_sum_has_its_known_joint_and_local_information():
    covariance = exact.gaussian_sum()
    joint = exact.gaussian_information(covariance, (0, 1), 2)
    assert joint == pytest.approx(math.log(3) / 2)
    assert exact.gaussian_information(covariance, 0, 2) == pytest.approx(math.log(1.5) / 2)


@SMALL
@given(probabilities(2, 3, 2))
def test_local_sum_and_joint_differ_by_total_correlations(joint):
    """Derivations, section 3: sum I(x_i; z) - I(X; z) = TC(X) - TC(X | z)."""
    local = [exact.information(joint, i, 2) for i in (0, 1)]
    whole = exact.information(joint, (0, 1), 2)
    apart = exact.total_correlation(joint, (0, 1)) - exact.total_correlation(joint, (0, 1), 2)
    assert sum(local) - whole == pytest.approx(apart, abs=1e-12)
    assert max(local) <= whole + 1e-12


def noisy_pair() -> np.ndarray:
    return exact.observed(np.full(2, 0.5), [exact.symmetric_channel(0.1)] * 2)


def test_axes_may_be_counted_from_the_last_and_be_numpys():
    joint, covariance = noisy_pair(), exact.gaussian_sum()
    whole = exact.information(joint, (0, 1), 2)
    assert exact.information(joint, 0, -1) == exact.information(joint, 0, 2) > 0.3
    assert exact.information(joint, (-3, -2), np.int64(2)) == whole
    apart = exact.total_correlation(joint, (0, 1), 2)
    assert exact.total_correlation(joint, (0, -2), -1) == apart
    assert np.array_equal(exact.marginal(joint, (0, -1)), exact.marginal(joint, (0, 2)))
    one = exact.gaussian_information(covariance, 0, 2)
    assert exact.gaussian_information(covariance, np.int64(0), -1) == one


@pytest.mark.parametrize(
    "a, b, given, said",
    [
        (0, 7, (), "axis is 7, and there are 3 variables; give a whole number from -3 to 2"),
        (0, -4, (), "axis is -4"),
        (0.5, 2, (), "axis is 0.5"),
        ((0, 1), 2, -1, "the axes are 0, 1, 2, 2, counted from 0; name each but once"),
        ((0, 0), 2, (), "name each but once"),
    ],
)
def test_axes_that_are_not_there_or_named_twice_are_refused(a, b, given, said):
    a = a if isinstance(a, tuple) else (a,)
    with pytest.raises(ValueError, match=said):
        exact.information(noisy_pair(), a, b, given)
    with pytest.raises(ValueError, match=said):
        exact.gaussian_information(exact.gaussian_sum(), a, b, given)
    with pytest.raises(ValueError, match="axis is|but once"):
        exact.total_correlation(noisy_pair(), (*a, b), given)


def test_gaussian_total_correlations_obey_the_same_identity():
    root = np.random.default_rng(0).normal(size=(4, 4))
    covariance = root @ root.T
    local = sum(exact.gaussian_information(covariance, i, 3) for i in range(3))
    apart = exact.gaussian_total_correlation(covariance, range(3))
    apart -= exact.gaussian_total_correlation(covariance, range(3), 3)
    whole = exact.gaussian_information(covariance, range(3), 3)
    assert local - whole == pytest.approx(apart)


@SMALL
@given(probabilities(3, 2), probabilities(3, 4))
def test_processing_never_adds_information(joint, rows):
    channel = rows + 1e-3
    channel /= channel.sum(1, keepdims=True)
    after = exact.through(joint, 0, channel)
    assert after.sum() == pytest.approx(1)
    assert exact.information(after, 0, 1) <= exact.information(joint, 0, 1) + 1e-12


def test_channels_pass_what_they_should():
    bit = np.eye(2) / 2
    erased = exact.through(bit, 0, exact.erasure_channel(0.3))
    assert exact.information(erased, 0, 1) == pytest.approx(0.7 * LN2)
    flipped = exact.through(bit, 0, exact.symmetric_channel(0.1))
    assert exact.information(flipped, 0, 1) == pytest.approx(0.368064, abs=1e-6)
    twice = exact.through(flipped, 0, exact.symmetric_channel(0.2))
    assert exact.information(twice, 0, 1) == pytest.approx(0.120090, abs=1e-6)
    assert exact.symmetric_channel(0.3, 4).sum(1) == pytest.approx(1)


def test_multiplying_removes_information_only_at_exactly_nought():
    joint = np.array([[0.3, 0.1], [0.1, 0.2], [0.05, 0.25]])
    symbols = np.array([-1.0, 0.5, 2.0])
    truth = exact.information(joint, 0, 1)
    for factor in (0.5, -1e-6, 1e-300):
        after = exact.through(joint, 0, exact.function_channel(factor * symbols))
        assert exact.information(after, 0, 1) == pytest.approx(truth, abs=1e-15)
    after = exact.through(joint, 0, exact.function_channel(0 * symbols))
    assert exact.information(after, 0, 1) == pytest.approx(0, abs=1e-12)


@SMALL
@given(probabilities(3, 3), probabilities(3))
def test_variational_bound_is_the_information_and_a_divergence_more(joint, q):
    q = 0.9 * q + 0.1 / 3
    weights = joint.sum(1)
    rows = joint / np.where(weights > 0, weights, 1)[:, None]
    rows[weights == 0] = q
    bound = exact.mean_divergence(weights, rows, q)
    more = exact.mean_divergence(np.ones(1), joint.sum(0)[None], q)
    assert bound - more == pytest.approx(exact.information(joint, 0, 1), abs=1e-12)


def test_conditional_information_sees_what_the_marginals_hide():
    xor = exact.toy_systems()["XOR"]
    assert exact.information(xor, 0, 2) == pytest.approx(0, abs=1e-12)
    assert exact.information(xor, 0, 2, given=1) == pytest.approx(LN2)


# --- Gaussians ---------------------------------------------------------------------------------


@pytest.mark.parametrize("r, truth", [(0, 0.318147), (1, 0.443147), (2, 0.818147), (3, 1.443147)])
def test_capacity_at_half_noise_has_its_closed_form(r, truth):
    assert exact.capacity(r, 0.5) == pytest.approx(truth, abs=1e-6)


def test_capacity_is_that_of_the_method():
    r, keep = np.random.default_rng(0).normal(size=20), 0.7
    of_method = capacity(torch.tensor(r), torch.tensor(keep), torch.tensor(0.0), torch.tensor(1.0))
    assert exact.capacity(r, keep) == pytest.approx(of_method.numpy())


def test_quadrature_agrees_with_closed_forms():
    far_apart = exact.mixture_information(np.eye(2) / 2, [0, 100], [1, 1])
    assert far_apart == pytest.approx(LN2)
    same = exact.mixture_information(np.eye(2) / 2, [3, 3], [2, 2])
    assert same == pytest.approx(0, abs=1e-12)
    leak = exact.mixture_information(np.eye(2) / 2, [0, 0], [0.2, 1])
    assert leak == pytest.approx(0.3028, abs=1e-4)


@pytest.mark.parametrize("narrow", [5e-4, 1e-5, 1e-9])
def test_quadrature_sees_components_that_are_narrow(narrow):
    apart = exact.mixture_information(np.eye(2) / 2, [0, 30], [1, narrow])
    assert apart == pytest.approx(LN2, abs=1e-9)
    within = exact.mixture_information(np.eye(2) / 2, [0, 0.5], [1, narrow])
    # The wide one is taken for the narrow one about as often as it comes as near.
    assert LN2 - 40 * narrow < within < LN2


@SMALL
@given(probabilities(4, 3), st.floats(0.05, 0.95))
def test_what_passes_the_noise_is_bounded_by_what_enters_and_by_the_capacity(joint, keep):
    weights, symbols = joint.sum(1), np.array([-1.0, 0.0, 0.5, 3.0])
    mean = weights @ symbols
    std = math.sqrt(weights @ (symbols - mean) ** 2) or 1.0
    r = (symbols - mean) / std
    passed = exact.mixture_information(joint, keep * r, np.full(4, 1 - keep))
    entered = exact.mixture_information(np.diag(weights), keep * r, np.full(4, 1 - keep))
    assert passed <= entered + 1e-9
    assert entered <= weights @ exact.capacity(r, keep) + 1e-9
    assert passed <= exact.information(joint, 0, 1) + 1e-9


# --- InfoNCE -----------------------------------------------------------------------------------


@SMALL
@given(probabilities(2, 3, 2), tables((2, 2), (3, 2)), st.sampled_from(exact.FORMS))
def test_the_integral_is_the_enumeration(joint, critics, form):
    whole = exact.enumerate_batches(joint, critics, 2, form)
    assert exact.expectation(joint, critics, 2, form) == pytest.approx(whole, abs=1e-11)


@pytest.mark.parametrize("form", infonce.FORMS)
def test_a_batch_has_the_value_that_the_method_computes(form):
    scores = torch.randn(4, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = exact.batch_value(scores.numpy(), form)
    assert found.mean() == pytest.approx(float(infonce.lower_bound(scores, form)))
    if form == "location":
        assert found == pytest.approx(infonce.pointwise(scores).mean(0).numpy())


@SMALL
@given(probabilities(2, 2, 3), tables((2, 3), (2, 3)), st.integers(2, 40))
def test_the_valid_forms_stay_in_their_order_below_the_truth(joint, critics, k):
    """V2 <= mean V0 <= mean min(log K, I(x_i; z)), and the pooled form below the mean of I."""
    truth = np.array([exact.information(joint, i, 2) for i in (0, 1)])
    value = {form: exact.expectation(joint, critics, k, form) for form in exact.FORMS}
    assert value["paper"].mean() <= value["location"].mean() + 1e-10
    assert (value["location"] <= np.minimum(math.log(k), truth) + 1e-10).all()
    assert value["pooled"].mean() <= min(math.log(k), truth.mean()) + 1e-10
    unpaired = value["patent unpaired"]
    assert unpaired == pytest.approx(value["paper"] - math.log(2 * k), abs=1e-10)
    assert unpaired.mean() <= 1e-10
    assert value["patent paired"].mean() <= -math.log(2 * k) + 1e-10


@SMALL
@given(probabilities(2, 2), tables((2, 2)), st.integers(2, 30))
def test_no_critic_reads_more_than_the_log_ratio(table, critics, k):
    best = exact.expectation(table, [exact.log_ratio(table)], k)
    assert exact.expectation(table, critics, k) <= best + 1e-10


@SMALL
@given(probabilities(2, 2), st.sampled_from([0.0, 0.01, 0.2, 0.4, 0.5]), st.integers(2, 30))
def test_redundancy_read_with_own_critics_has_its_sign_and_stays_below_the_truth(table, flip, k):
    """Derivations, section 5: 0 <= R_K <= R."""
    after = exact.through(table, 0, exact.symmetric_channel(flip))
    read = [float(exact.expectation(t, exact.best_critics(t), k)[0]) for t in (table, after)]
    truth = exact.information(table, 0, 1) - exact.information(after, 0, 1)
    assert -1e-10 <= read[0] - read[1] <= truth + 1e-10


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_a_normaliser_without_the_own_locations_exceeds_the_truth(n):
    joint = copies_of_a_bit(n)
    value = exact.expectation(joint, exact.best_critics(joint), 2, "own locations dropped")
    assert value == pytest.approx(0.5 * math.log(1 + n))
    assert (value.mean() > LN2) == (n > 3)


@pytest.mark.parametrize(
    "flip, k, truth",
    [(0.0, 2, 0.346574), (0.0, 16, 0.660820), (0.1, 2, 0.184032), (0.1, 16, 0.347648),
     (0.26, 2, 0.060045), (0.26, 16, 0.112839)],
)  # fmt: skip
def test_the_best_critic_of_a_binary_channel_reads_its_known_value(flip, k, truth):
    joint = exact.through(np.eye(2) / 2, 0, exact.symmetric_channel(flip))
    assert exact.expectation(joint, exact.best_critics(joint), k) == pytest.approx(truth, abs=1e-6)


def test_two_independent_bits_read_their_known_values():
    joint, critics = exact.toy_systems()["both bits"], []
    for bits in (np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])):
        critics.append(np.log(np.equal.outer([0, 1], bits) + 1e-30))
    value = {form: exact.expectation(joint, critics, 2, form).mean() for form in exact.FORMS}
    assert value["location"] == pytest.approx(0.346574, abs=1e-6)
    assert value["paper"] == pytest.approx(0.317128, abs=1e-6)


def test_leaving_the_positive_out_has_no_bound():
    bit = np.eye(2) / 2
    values = [
        exact.expectation(bit, [strength * np.eye(2)], 2, "positive dropped")[0]
        for strength in (1, 10, 100)
    ]
    assert values == pytest.approx([0.5, 5, 50])
    assert exact.expectation(bit, exact.best_critics(bit), 2, "positive dropped")[0] == math.inf


def test_large_batches_and_alphabets_are_no_obstacle():
    """A copy of one of m equally likely symbols: E log(K / (1 + Bin(K - 1, 1 / m)))."""
    k, m = 4096, 32
    agree = np.random.default_rng(0).binomial(k - 1, 1 / m, 200_000)
    sampled = np.log(k / (1 + agree)).mean()
    value = math.log(k) - exact.mean_log_sum(1.0, [1, 0], [1 / m, 1 - 1 / m], k)
    assert value == pytest.approx(sampled, abs=2e-3)
    assert value < math.log(m)


def test_wrong_input_is_refused_with_what_to_do():
    joint = np.full((3, 3), 1 / 9)
    with pytest.raises(ValueError, match="patent paired"):
        exact.expectation(joint, [joint], 2, "dim")
    with pytest.raises(ValueError, match="take a smaller k"):
        exact.enumerate_batches(joint, [joint], 12)
