"""Pointwise information and surprise: two readings of the same log-ratios."""

import math

import pytest
import torch

from milr.infonce import CRITICS, SeparableCritic, make_critic, pointwise_against
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


def test_a_bank_from_elsewhere_reads_information_where_there_is_none():
    """z says nothing of x. Of x like those of the bank nothing is read, of shifted ones much."""
    draw = torch.Generator().manual_seed(0)
    critic = SeparableCritic(1, 1)  # scores are products of what is embedded
    bank = torch.randn(500, 1, 1, generator=draw)
    z = torch.ones(400, 1)

    def read(x):
        return float(pointwise_against(critic, x, z, bank).mean())

    like = torch.randn(400, 1, 1, generator=draw)
    assert read(like) < 0.05
    assert read(like + 4) > 1


def test_a_picture_among_its_own_negatives_reads_up_to_a_bit_too_little():
    draw = torch.Generator().manual_seed(0)
    critic = SeparableCritic(1, 1)  # scores are products of what is embedded
    bank = torch.randn(60, 1, 1, generator=draw)
    x, z = torch.full((1, 1, 1), 9.0), torch.ones(1, 1)
    others = float(pointwise_against(critic, x, z, bank))
    itself = float(pointwise_against(critic, x, z, torch.cat([bank, x])))
    assert 0.9 * math.log(2) < others - itself <= math.log(2) + 1e-6
