"""Timestep samplers: ranges, distributions and errors."""

import pytest
import torch
from torch import Tensor

from zoodip_core.config import SearchSettings, TimestepsName
from zoodip_core.errors import InvalidModelError, InvalidSettingsError
from zoodip_core.zeroth_order.timesteps import (
    TIMESTEPS,
    PartialUniform,
    SnrWeighted,
    Stratified,
    TimestepSampler,
)


def draw(sampler: TimestepSampler, count: int, seed: int = 0) -> Tensor:
    """Return timesteps drawn with a new generator."""
    generator = torch.Generator().manual_seed(seed)
    return torch.tensor([sampler.sample(step, generator) for step in range(count)])


def test_partial_uniform_draws_exactly_its_range() -> None:
    """Eq. (9): every integer of [T_L, T_U) occurs, and T_U never does."""
    assert draw(PartialUniform(3, 8), 500).unique().tolist() == [3, 4, 5, 6, 7]


def test_partial_uniform_is_uniform() -> None:
    """Eq. (9): over [500, 900) in 8 bins, χ² is below its 99.9 % quantile (7 degrees of freedom)."""
    counts = torch.histc(draw(PartialUniform(500, 900), 8000).double(), bins=8, min=500, max=900)
    assert ((counts - 1000) ** 2 / 1000).sum() < 24.3


def test_same_seed_draws_the_same_timesteps() -> None:
    """A sampler uses no randomness except the given generator."""
    sampler = PartialUniform(0, 1000)
    assert draw(sampler, 20, seed=5).equal(draw(sampler, 20, seed=5))
    assert not draw(sampler, 20, seed=5).equal(draw(sampler, 20, seed=6))


@pytest.mark.parametrize("seed", range(20))
def test_stratified_covers_its_range_with_few_timesteps(seed: int) -> None:
    """Eight successive timesteps lie in all quarters of the range, and 400 fill eight bins evenly."""
    drawn = draw(Stratified(500, 900, seed), 400)
    assert (drawn.min() >= 500) & (drawn.max() < 900)
    for first in range(0, 400, 8):
        assert ((drawn[first : first + 8] - 500) // 100).unique().tolist() == [0, 1, 2, 3]
    counts = torch.histc(drawn.double(), bins=8, min=500, max=900)
    assert ((counts >= 48) & (counts <= 52)).all()
    assert drawn.equal(draw(Stratified(500, 900, seed), 400, seed=1))  # the generator does not matter


def test_stratified_starts_elsewhere_with_another_seed() -> None:
    """Searches of many seeds start all over the range."""
    starts = {int(draw(Stratified(0, 8, seed), 1)) for seed in range(100)}
    assert starts == set(range(8))


@pytest.mark.parametrize("name", ["partial_uniform", "stratified"])
def test_t_high_above_the_schedule_is_rejected(name: TimestepsName) -> None:
    """T_U may equal, but not exceed, the number of timesteps of the model."""
    settings = SearchSettings(t_high=900)
    TIMESTEPS[name].from_settings(settings, torch.linspace(0.99, 0.01, 900))
    with pytest.raises(
        InvalidSettingsError,
        match=r"settings\.t_high: got 900; expected at most 899, the timesteps of the base model",
    ) as caught:
        TIMESTEPS[name].from_settings(settings, torch.linspace(0.99, 0.01, 899))
    assert caught.value.field == "settings.t_high"


def test_snr_weights_are_distances_below_the_largest_log_snr() -> None:
    """With p(t) ∝ max log SNR − log SNR(t), the timestep with the least noise is never drawn."""
    alphas = torch.tensor([0.9, 0.5, 0.1])  # log SNR: log 9, 0, −log 9
    weights = SnrWeighted(alphas).weights
    assert torch.allclose(weights / weights.sum(), torch.tensor([0, 1 / 3, 2 / 3]).double(), atol=1e-6)
    share = (draw(SnrWeighted(alphas), 3000) == 2).double().mean()
    assert share == pytest.approx(2 / 3, abs=0.035)  # four standard errors
    assert 0 not in draw(SnrWeighted(alphas), 500)


def test_snr_of_zero_or_infinity_is_clipped_to_the_finite_extreme() -> None:
    """In a schedule that ends in pure noise, the last timestep has the weight of the one before it."""
    weights = SnrWeighted(torch.tensor([1.0, 0.9, 0.5, 0.1, 0.0])).weights
    assert weights.isfinite().all()
    assert weights[4] == weights[3]
    assert weights[0] == weights[1] == 0


@pytest.mark.parametrize("alphas", [[0.5, 0.5], [0.0, 1.0], [0.5]])
def test_snr_of_a_constant_schedule_is_rejected(alphas: list[float]) -> None:
    """If all weights would be 0, the error names the base model."""
    with pytest.raises(InvalidModelError, match="same noise"):
        SnrWeighted(torch.tensor(alphas))


def test_snr_requires_a_schedule() -> None:
    """The caller must pass `alphas_cumprod` for timesteps="snr"."""
    with pytest.raises(AssertionError, match="alphas_cumprod"):
        TIMESTEPS["snr"].from_settings(SearchSettings(timesteps="snr"), None)
