"""Agreement of maps, and what a change of the features leaves of their information."""

import pytest
import torch

from milr.evaluation.agreement import Samples, information_after, pairwise_correlation


def test_scale_and_offset_do_not_matter_and_the_sign_does():
    maps = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0))
    found = pairwise_correlation([maps, 3 * maps + 1, -maps])
    assert found.tolist() == pytest.approx([1, -1, -1])


def test_the_correlation_is_that_of_numpy():
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 5, 3, 3, generator=generator)
    expected = torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]
    assert float(pairwise_correlation([a, b])) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize(
    "maps",
    [
        [torch.rand(1, 2, 2)],
        [torch.rand(1, 2, 2), torch.rand(1, 3, 2)],
        [torch.rand(1, 2, 2), torch.ones(1, 2, 2)],
    ],
)
def test_maps_that_cannot_be_compared_are_refused(maps):
    with pytest.raises(ValueError, match="give two or more|leave it out"):
        pairwise_correlation(maps)


def drawn(count, seed):
    """Four locations, of which the first two carry z."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(count, 3, generator=generator)
    noise = torch.randn(count, 4, 3, generator=generator)
    local = noise + 3 * z[:, None] * torch.tensor([1.0, 1.0, 0.0, 0.0])[:, None]
    return Samples(local, torch.full_like(local, 1e-6), z)


def left(change):
    settings = {"steps": 80, "batch": 32, "hidden": 0.0}
    return information_after(change, drawn(256, 0), drawn(256, 1), **settings)[0]


def test_multiplication_takes_nothing_away_and_noise_does():
    whole = left(lambda s: s.local)
    multiplied = left(lambda s: s.keep * s.local)
    noised = left(lambda s: s.keep * s.local + (1 - s.keep) * torch.randn_like(s.local))
    assert whole > 0.5
    assert multiplied == pytest.approx(whole, abs=0.05)
    assert noised < 0.1 * whole


def test_too_few_samples_to_test_are_refused():
    with pytest.raises(ValueError, match="at least two times 32"):
        information_after(lambda s: s.local, drawn(64, 0), drawn(40, 1), batch=32, steps=1)
