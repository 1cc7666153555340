"""Timestep samplers: ranges, distributions and their errors."""

import pytest
import torch
from torch import Tensor

from zoodip_core.config import SearchSettings
from zoodip_core.errors import InvalidModelError, InvalidSettingsError
from zoodip_core.zeroth_order.timesteps import TIMESTEPS, PartialUniform, SnrWeighted, TimestepSampler


def draw(sampler: TimestepSampler, count: int, seed: int = 0) -> Tensor:
    """Timesteps of a fresh generator."""
    generator = torch.Generator().manual_seed(seed)
    return torch.tensor([sampler.sample(generator) for _ in range(count)])


def test_partial_uniform_reaches_both_ends_and_nothing_beyond() -> None:
    """Eq. (9): every integer of [T_L, T_U) occurs, T_U itself never does."""
    assert draw(PartialUniform(3, 8), 500).unique().tolist() == [3, 4, 5, 6, 7]


def test_partial_uniform_is_uniform() -> None:
    """Eq. (9): over [500, 900) in 8 bins, χ² stays below its 99.9 % quantile (7 degrees of freedom)."""
    counts = torch.histc(draw(PartialUniform(500, 900), 8000).double(), bins=8, min=500, max=900)
    assert ((counts - 1000) ** 2 / 1000).sum() < 24.3


def test_same_seed_draws_the_same_timesteps() -> None:
    """A sampler has no randomness besides the generator it is given."""
    sampler = PartialUniform(0, 1000)
    assert draw(sampler, 20, seed=5).equal(draw(sampler, 20, seed=5))
    assert not draw(sampler, 20, seed=5).equal(draw(sampler, 20, seed=6))


def test_upper_bound_beyond_the_schedule_is_the_users_mistake() -> None:
    """T_U may equal the number of timesteps of the model but not exceed it."""
    settings = SearchSettings(t_high=900)
    TIMESTEPS["partial_uniform"].from_settings(settings, torch.linspace(0.99, 0.01, 900))
    with pytest.raises(InvalidSettingsError, match=r"t_high: got 900; expected at most 899") as caught:
        TIMESTEPS["partial_uniform"].from_settings(settings, torch.linspace(0.99, 0.01, 899))
    assert caught.value.field == "settings.t_high"


def test_snr_weights_are_distances_below_the_largest_log_snr() -> None:
    """p(t) ∝ max log SNR − log SNR(t), so the cleanest timestep is never drawn."""
    alphas = torch.tensor([0.9, 0.5, 0.1])  # log SNR: log 9, 0, −log 9
    weights = SnrWeighted(alphas).weights
    assert torch.allclose(weights / weights.sum(), torch.tensor([0, 1 / 3, 2 / 3]).double(), atol=1e-6)
    share = (draw(SnrWeighted(alphas), 3000) == 2).double().mean()
    assert share == pytest.approx(2 / 3, abs=0.035)  # four standard errors
    assert 0 not in draw(SnrWeighted(alphas), 500)


def test_snr_of_zero_or_infinity_is_clipped_to_the_finite_extreme() -> None:
    """A schedule that ends in pure noise weights its last timestep as the one before it."""
    weights = SnrWeighted(torch.tensor([1.0, 0.9, 0.5, 0.1, 0.0])).weights
    assert weights.isfinite().all()
    assert weights[4] == weights[3]
    assert weights[0] == weights[1] == 0


@pytest.mark.parametrize("alphas", [[0.5, 0.5], [0.0, 1.0], [0.5]])
def test_snr_of_a_schedule_without_contrast_is_refused(alphas: list[float]) -> None:
    """Where all weights would be 0 the model is at fault, and says so instead of failing in torch."""
    with pytest.raises(InvalidModelError, match="same noise"):
        SnrWeighted(torch.tensor(alphas))


def test_snr_without_a_schedule_is_our_mistake() -> None:
    """The caller must hand over alphas_cumprod for timesteps="snr"."""
    with pytest.raises(AssertionError, match="alphas_cumprod"):
        TIMESTEPS["snr"].from_settings(SearchSettings(timesteps="snr"), None)
