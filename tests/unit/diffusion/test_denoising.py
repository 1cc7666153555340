"""One forward for all candidates; memory that runs out halves it; the loss is Eq. (1)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from zoodip_core.diffusion.denoising import (
    Denoiser,
    NoiseSchedule,
    Rows,
    directional_derivatives,
    row_losses,
)
from zoodip_core.errors import OutOfMemoryError


class _SmallUnet(nn.Module):
    """Doubles its input; refuses more rows than `room`, in the words of torch's allocators."""

    def __init__(self, room: int, message: str) -> None:
        super().__init__()
        self.room = room
        self.message = message
        self.batches: list[int] = []

    def forward(self, noisy: Tensor, _t: Tensor, **_rest: object) -> tuple[Tensor]:
        self.batches.append(len(noisy))
        if len(noisy) > self.room:
            raise RuntimeError(self.message)
        return (noisy * 2,)


def _rows(count: int) -> Rows:
    noisy = torch.randn(count, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    return Rows(noisy, torch.zeros(count, dtype=torch.long), torch.zeros(count, 3, 5))


CPU_MESSAGE = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried 99 bytes"


def test_memory_that_runs_out_halves_the_forward() -> None:
    """With room for 3 rows, 8 rows run as 2 + 2 + 2 + 2, and later forwards start at that size."""
    unet = _SmallUnet(3, CPU_MESSAGE)
    denoiser = Denoiser(unet, dtype=torch.float32)
    rows = _rows(8)
    assert torch.equal(denoiser.predict(rows), rows.noisy * 2)
    assert denoiser.max_rows == 2
    unet.batches.clear()
    denoiser.predict(rows)
    assert unet.batches == [2, 2, 2, 2]


def test_not_even_one_row_fits() -> None:
    """The end of halving is a typed error that a retry may cure."""
    with pytest.raises(OutOfMemoryError) as caught:
        Denoiser(_SmallUnet(0, CPU_MESSAGE), dtype=torch.float32).predict(_rows(4))
    assert caught.value.retryable


def test_other_errors_are_not_taken_for_memory() -> None:
    """A shape error stays what it is."""
    with pytest.raises(RuntimeError, match="shapes"):
        Denoiser(_SmallUnet(0, "shapes do not match"), dtype=torch.float32).predict(_rows(2))


def test_max_rows_does_not_change_the_result() -> None:
    """Splitting is invisible from outside."""
    rows = _rows(7)
    split = Denoiser(_SmallUnet(9, ""), dtype=torch.float32, max_rows=3).predict(rows)
    assert torch.equal(split, rows.noisy * 2)


def test_loss_is_the_mean_of_squares() -> None:
    """Eq. (1) with the mean of the published script."""
    prediction, target = torch.full((2, 4, 2, 2), 3.0), torch.zeros(2, 4, 2, 2)
    assert row_losses(prediction, target).tolist() == [9.0, 9.0]


def test_velocity_and_noise_targets_recover_the_latent() -> None:
    """Here z = √ᾱ z_t − √(1−ᾱ) v, and (z_t − √(1−ᾱ) ε)/√ᾱ: both targets belong to the same z_t."""
    alphas = torch.linspace(0.99, 0.01, 10)
    z, noise = torch.randn(4, 2, 2), torch.randn(4, 2, 2)
    velocity = NoiseSchedule(alphas, velocity=True)
    for t in range(10):
        alpha = alphas[t]
        z_t, v = velocity.noisy(z, noise, t), velocity.target(z, noise, t)
        torch.testing.assert_close(alpha.sqrt() * z_t - (1 - alpha).sqrt() * v, z)
    assert NoiseSchedule(alphas, velocity=False).target(z, noise, 3) is noise


def test_residual_derivative_lacks_the_bias_of_the_difference() -> None:
    """For a linear model the residual inner product is exact, and the difference is off by ‖Δ‖²/(N μ)."""
    generator = torch.Generator().manual_seed(1)
    base, change, target = (torch.randn(4, 2, 2, generator=generator, dtype=torch.float64) for _ in range(3))
    mu = 0.1
    prediction = torch.stack([base, base + mu * change])
    exact = 2 * ((base - target) * change).mean()
    torch.testing.assert_close(directional_derivatives(prediction, target, mu)[0], exact)
    losses = row_losses(prediction, target.expand_as(prediction))
    bias = mu * change.square().mean()
    torch.testing.assert_close((losses[1] - losses[0]) / mu, exact + bias)
