r"""Timestep sampling: the timestep t at which a step measures the loss.

Partial Uniform Timestep Sampling uses the noisy part of the process, where the prompt matters most:

$$ t \sim U(T_L, T_U) $$

The stratified sampler spreads the timesteps of successive steps evenly over the same range, with a random start s:

$$ t_l = T_L + \lfloor \{ s + l \varphi \} (T_U - T_L) \rfloor, \quad \varphi = (\sqrt 5 - 1) / 2, \quad
   \{x\} = x - \lfloor x \rfloor $$

TextBoost's sampler weights each timestep by the distance of its log SNR from the largest:

$$ p(t) \propto \max_s \log \mathrm{SNR}(s) - \log \mathrm{SNR}(t), \quad
   \mathrm{SNR}(t) = \bar\alpha_t / (1 - \bar\alpha_t) $$

Source: arXiv:2503.14868v1, Eq. (9).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from zoodip_core.config import SearchSettings, TimestepsName
from zoodip_core.errors import InvalidModelError, InvalidSettingsError

GOLDEN_RATIO = (5**0.5 - 1) / 2
S = TypeVar("S", bound="_InRange")


@runtime_checkable
class TimestepSampler(Protocol):
    """Interface of a sampler of timesteps."""

    def sample(self, step: int, generator: Generator) -> int:
        """Return a timestep; 0 is the least noisy.

        Args:
            step: Number of completed steps.
            generator: Generator of the search.
        """
        ...


class _InRange:
    """Timesteps of [T_L, T_U). Only a sampler without a generator uses the seed."""

    def __init__(self, t_low: int, t_high: int, seed: int = 0) -> None:
        self._t_low, self._t_high, self._seed = t_low, t_high, seed

    @classmethod
    def from_settings(
        cls: type[S], settings: SearchSettings, alphas_cumprod: Float[Tensor, " timesteps"] | None
    ) -> S:
        """Return the sampler for these settings.

        Raises:
            InvalidSettingsError: t_high exceeds the number of the model's timesteps.
        """
        if alphas_cumprod is not None and settings.t_high > len(alphas_cumprod):
            raise InvalidSettingsError.mismatch(
                "settings.t_high",
                got=settings.t_high,
                expected=f"at most {len(alphas_cumprod)}, the timesteps of the base model",
            )
        return cls(settings.t_low, settings.t_high, settings.seed)


class PartialUniform(_InRange):
    """Partial Uniform Timestep Sampling (PUTS): t ~ U(T_L, T_U) over the integers of [t_low, t_high).

    Source: arXiv:2503.14868v1, Eq. (9).
    """

    def sample(self, step: int, generator: Generator) -> int:
        """Return a timestep in [t_low, t_high)."""
        return int(torch.randint(self._t_low, self._t_high, (1,), generator=generator).item())


class Stratified(_InRange):
    """PUTS with even spacing: a few successive timesteps cover the range. It depends on seed and step only."""

    @cached_property
    def _start(self) -> float:
        """s, a share of the range."""
        return float(torch.rand((), generator=Generator().manual_seed(self._seed), dtype=torch.float64))

    def sample(self, step: int, generator: Generator) -> int:
        """Return the timestep of this step; nothing is drawn from the generator."""
        return self._t_low + int((self._start + step * GOLDEN_RATIO) % 1 * (self._t_high - self._t_low))


class SnrWeighted:
    """TextBoost's sampling: p(t) ∝ max log SNR − log SNR(t) over the model's whole schedule.

    T_L and T_U have no effect. An infinite log SNR (ᾱ of 0 or 1) is clipped to the largest or smallest finite one.
    """

    def __init__(self, alphas_cumprod: Float[Tensor, " timesteps"]) -> None:
        alphas = alphas_cumprod.detach().to("cpu", torch.float64)
        log_snr = torch.log(alphas) - torch.log1p(-alphas)
        finite = log_snr[log_snr.isfinite()]
        if not (finite.numel() and finite.max() > finite.min()):
            raise InvalidModelError("base_model: the noise schedule has the same noise at every timestep")
        log_snr = log_snr.clamp(finite.min(), finite.max())
        self.weights = log_snr.max() - log_snr

    @classmethod
    def from_settings(
        cls, settings: SearchSettings, alphas_cumprod: Float[Tensor, " timesteps"] | None
    ) -> SnrWeighted:
        """Return the sampler for the model's noise schedule."""
        if alphas_cumprod is None:
            raise AssertionError(f"timesteps={settings.timesteps!r} requires alphas_cumprod")
        return cls(alphas_cumprod)

    def sample(self, step: int, generator: Generator) -> int:
        """Return a timestep of the schedule."""
        return int(torch.multinomial(self.weights, 1, generator=generator).item())


TIMESTEPS: Mapping[TimestepsName, type[PartialUniform] | type[Stratified] | type[SnrWeighted]] = {
    "partial_uniform": PartialUniform,
    "stratified": Stratified,
    "snr": SnrWeighted,
}
