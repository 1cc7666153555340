"""The denoiser batches all rows that fit into memory; the loss is Eq. (1)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from zoodip_core.diffusion.denoising import (
    Denoiser,
    NoiseSchedule,
    Rows,
    directional_curvature,
    directional_derivatives,
    row_losses,
)
from zoodip_core.diffusion.row_limit import RETRY_AFTER
from zoodip_core.errors import OutOfMemoryError


class _SmallUnet(nn.Module):
    """U-Net that doubles its input and raises an allocator's error for more than `room` rows."""

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


def test_out_of_memory_finds_the_largest_batch_that_fits() -> None:
    """If 5 rows fit, 6 rows run as 3 + 3 at first, then as 5 + 1: no forward pass fails twice at one size."""
    unet = _SmallUnet(5, CPU_MESSAGE)
    denoiser = Denoiser(unet, dtype=torch.float32)
    rows = _rows(6)
    for batches in ([6, 3, 3], [4, 2], [5, 1], [5, 1]):
        unet.batches.clear()
        assert torch.equal(denoiser.predict(rows), rows.noisy * 2)
        assert unet.batches == batches


@pytest.mark.parametrize("room", range(1, 12))
@pytest.mark.parametrize("wanted", [1, 2, 6, 11, 64])
def test_every_room_is_found(room: int, wanted: int) -> None:
    """After a few forward passes, the batch is the largest that fits, whatever that is."""
    unet = _SmallUnet(room, CPU_MESSAGE)
    denoiser = Denoiser(unet, dtype=torch.float32)
    for _ in range(8):
        unet.batches.clear()
        denoiser.predict(_rows(wanted))
    assert max(unet.batches) == min(room, wanted)


def test_the_batch_grows_again_when_memory_is_free() -> None:
    """Sizes that did not fit are tried again after a number of forward passes."""
    unet = _SmallUnet(3, CPU_MESSAGE)
    denoiser = Denoiser(unet, dtype=torch.float32)
    for _ in range(4):
        denoiser.predict(_rows(12))
    unet.room = 12
    for _ in range(RETRY_AFTER):
        denoiser.predict(_rows(12))
    unet.batches.clear()
    denoiser.predict(_rows(12))
    assert unet.batches == [12]


def test_the_batch_shrinks_when_memory_is_taken() -> None:
    """A size that has fitted can fail later; the search for a smaller one starts below half of it."""
    unet = _SmallUnet(64, CPU_MESSAGE)
    denoiser = Denoiser(unet, dtype=torch.float32)
    denoiser.predict(_rows(64))
    unet.room = 3
    unet.batches.clear()
    denoiser.predict(_rows(64))
    assert unet.batches[:6] == [64, 32, 16, 8, 4, 2]


def test_a_large_image_does_not_limit_small_ones() -> None:
    """Each size of latents has its own limit."""
    unet = _SmallUnet(1, CPU_MESSAGE)
    denoiser = Denoiser(unet, dtype=torch.float32)
    denoiser.predict(_rows(4))
    unet.room = 4
    large = torch.zeros(4, 4, 6, 6)
    unet.batches.clear()
    denoiser.predict(Rows(large, torch.zeros(4, dtype=torch.long), torch.zeros(4, 3, 5)))
    assert unet.batches == [4]


def test_a_single_row_that_does_not_fit() -> None:
    """If a single row does not fit, the error is typed and retryable."""
    with pytest.raises(OutOfMemoryError) as caught:
        Denoiser(_SmallUnet(0, CPU_MESSAGE), dtype=torch.float32).predict(_rows(4))
    assert caught.value.retryable


def test_other_runtime_errors_are_raised_unchanged() -> None:
    """A shape error is not mistaken for a lack of memory."""
    with pytest.raises(RuntimeError, match="shapes"):
        Denoiser(_SmallUnet(0, "shapes do not match"), dtype=torch.float32).predict(_rows(2))


def test_max_rows_does_not_change_the_result() -> None:
    """Splitting a batch gives the same predictions."""
    rows = _rows(7)
    split = Denoiser(_SmallUnet(9, ""), dtype=torch.float32, max_rows=3).predict(rows)
    assert torch.equal(split, rows.noisy * 2)


def test_loss_is_the_mean_of_squares() -> None:
    """The loss is Eq. (1), with the mean that the published script uses."""
    prediction, target = torch.full((2, 4, 2, 2), 3.0), torch.zeros(2, 4, 2, 2)
    assert row_losses(prediction, target).tolist() == [9.0, 9.0]


def test_velocity_and_noise_targets_recover_the_latent() -> None:
    """The velocity target satisfies z = √ᾱ z_t − √(1−ᾱ) v. The noise target is the noise itself."""
    alphas = torch.linspace(0.99, 0.01, 10)
    z, noise = torch.randn(4, 2, 2), torch.randn(4, 2, 2)
    velocity = NoiseSchedule(alphas, velocity=True)
    for t in range(10):
        alpha = alphas[t]
        z_t, v = velocity.noisy(z, noise, t), velocity.target(z, noise, t)
        torch.testing.assert_close(alpha.sqrt() * z_t - (1 - alpha).sqrt() * v, z)
    assert NoiseSchedule(alphas, velocity=False).target(z, noise, 3) is noise


def test_residual_derivative_has_no_finite_difference_bias() -> None:
    """For a linear model the residual inner product is exact; the loss difference is biased by ‖Δ‖²/(N μ)."""
    generator = torch.Generator().manual_seed(1)
    base, change, target = (torch.randn(4, 2, 2, generator=generator, dtype=torch.float64) for _ in range(3))
    mu = 0.1
    prediction = torch.stack([base, base + mu * change])
    exact = 2 * ((base - target) * change).mean()
    torch.testing.assert_close(directional_derivatives(prediction, target, mu)[0], exact)
    losses = row_losses(prediction, target.expand_as(prediction))
    bias = mu * change.square().mean()
    torch.testing.assert_close((losses[1] - losses[0]) / mu, exact + bias)
    torch.testing.assert_close(directional_curvature(prediction, mu)[0, 0], 2 * bias / mu)


def test_a_weight_of_cells_weights_derivatives_and_curvatures() -> None:
    """Cells without weight do not count; cells of double weight count as those of a narrower latent."""
    prediction = torch.randn(3, 4, 2, 6, generator=torch.Generator().manual_seed(0))
    target = torch.zeros(4, 2, 6)
    weight = torch.zeros(1, 2, 6)
    weight[..., :3] = 2
    half, other = prediction[..., :3], target[..., :3]
    torch.testing.assert_close(
        directional_derivatives(prediction, target, 0.1, weight), directional_derivatives(half, other, 0.1)
    )
    torch.testing.assert_close(
        directional_curvature(prediction, 0.1, weight), directional_curvature(half, 0.1)
    )
