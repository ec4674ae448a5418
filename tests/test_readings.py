"""Pointwise information and surprise: two readings of the same log-ratios."""

import math

import pytest
import torch

from milr.infonce import CRITICS, make_critic
from milr.readings import divergence, log_normaliser


def told_of_every_pair(truth):
    """Log-ratios (x, z) by the critic log p(x, z) / p(x), among all x as often as they come."""
    x, z = truth.sum(1), truth.sum(0)
    scores = (truth / x[:, None]).log()
    return scores - torch.logsumexp(scores + x[:, None].log(), 0), x, z


def test_the_mean_surprise_is_the_information_as_the_mean_pointwise_one_is():
    truth = torch.tensor([[0.30, 0.05, 0.05], [0.02, 0.20, 0.08], [0.05, 0.05, 0.20]]).double()
    truth = truth / truth.sum()
    ratios, x, z = told_of_every_pair(truth)
    information = float((truth * (truth / torch.outer(x, z)).log()).sum())
    assert float((truth * ratios).sum()) == pytest.approx(information, abs=1e-12)
    # A z that comes twice as often stands twice in the bank: here by its logarithm.
    weighted = ratios + z.log()
    values = divergence(weighted, z.log())
    by_hand = ((truth / x[:, None]) * (truth / x[:, None] / z).log()).sum(1)
    torch.testing.assert_close(values, by_hand)
    assert float((x * values).sum()) == pytest.approx(information, abs=1e-12)


def test_surprise_has_no_sign_where_pointwise_information_has_and_is_0_for_silence():
    """A binary symmetric channel of 0.3: +0.336 and -0.511 pointwise, 0.0823 for either bit."""
    truth = torch.tensor([[0.35, 0.15], [0.15, 0.35]]).double()
    ratios = told_of_every_pair(truth)[0]
    assert ratios[0].tolist() == pytest.approx([0.336472, -0.510826], abs=1e-6)
    assert divergence(ratios).tolist() == pytest.approx([0.082283, 0.082283], abs=1e-6)
    assert divergence(torch.full((4, 5), -2.0)).tolist() == [0] * 4
    assert divergence(ratios, ratios).tolist() == pytest.approx([0, 0], abs=1e-12)


@pytest.mark.parametrize("kind", CRITICS)
def test_what_a_critic_says_of_z_alone_does_not_count(kind):
    generator = torch.Generator().manual_seed(0)
    x, z = (torch.randn(*shape, generator=generator) for shape in ((7, 3, 4), (7, 5)))
    critic = make_critic(kind, 4, 5, 8)
    u, v = (part.detach() for part in critic.embed(x, z))
    normaliser = log_normaliser(critic, u, v).detach()
    scores = critic.score(u, v).detach()
    torch.testing.assert_close(normaliser, scores.logsumexp(0) - math.log(len(u)))
    extra = torch.linspace(-3, 3, len(v)).to(scores)
    other = scores + extra - ((scores + extra).logsumexp(0) - math.log(len(u)))
    torch.testing.assert_close(divergence(other), divergence(scores - normaliser))


@pytest.mark.parametrize("kind", CRITICS)
def test_a_bank_in_parts_has_the_same_normaliser(kind, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    x, z = (torch.randn(*shape, generator=generator) for shape in ((7, 3, 4), (7, 5)))
    critic = make_critic(kind, 4, 5, 8)
    u, v = (part.detach() for part in critic.embed(x, z))
    whole = log_normaliser(critic, u, v)
    monkeypatch.setattr("milr.readings.Z_AT_ONCE", 3)
    torch.testing.assert_close(log_normaliser(critic, u, v), whole)
