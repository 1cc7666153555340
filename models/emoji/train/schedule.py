"""The noise schedule: SD's scaled-linear betas, rescaled to zero terminal SNR, with v-prediction.

Source: arXiv:2305.08891 (zero terminal SNR, trailing steps), arXiv:2202.00512 (v-prediction).
"""

from typing import Any

import torch
from diffusers import DDPMScheduler

TIMESTEPS = 1000
SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": TIMESTEPS,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "steps_offset": 1,  # trailing steps do not use it; diffusers warns of any other
}


def signal_and_noise() -> tuple[torch.Tensor, torch.Tensor]:
    """The share of signal and of noise at each timestep, [1000] each, squares adding to one."""
    alphas = DDPMScheduler(**SCHEDULER).alphas_cumprod
    return alphas.sqrt(), (1 - alphas).sqrt()


def shares_of_rows(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The same on a device, [1000, 1, 1, 1] each: by timestep they stretch over rows of latents."""
    signal, noise = (share.view(-1, 1, 1, 1).to(device) for share in signal_and_noise())
    return signal, noise


def sampled_timesteps(count: int, generator: torch.Generator, logit_normal_share: float) -> torch.Tensor:
    """Timesteps of a batch: a share logit-normal (the middle, where words matter), the rest uniform."""
    device = generator.device
    uniform = torch.rand(count, generator=generator, device=device)
    middle = torch.sigmoid(torch.randn(count, generator=generator, device=device) + 0.3)
    share = torch.rand(count, generator=generator, device=device)
    chosen = torch.where(share < logit_normal_share, middle, uniform)
    return (chosen * TIMESTEPS).long().clamp(0, TIMESTEPS - 1)
