"""Noise schedule and DDIM sampling of networks in training.

The schedule is Stable Diffusion's scaled-linear betas, rescaled to zero terminal SNR, with v-prediction.

Source: arXiv:2305.08891 (zero terminal SNR, trailing steps), arXiv:2202.00512 (v-prediction).
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler
from PIL import Image

from models.emoji.train.device import Network, autocast

TIMESTEPS = 1000
STEPS = 20
GUIDANCE = 2.0
SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": TIMESTEPS,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "steps_offset": 1,  # unused with trailing steps; diffusers warns about any other value
}


def signal_and_noise() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the signal and noise scale at each timestep, [1000] each; their squares sum to one."""
    alphas = DDPMScheduler(**SCHEDULER).alphas_cumprod
    return alphas.sqrt(), (1 - alphas).sqrt()


def broadcast_signal_and_noise(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scales on a device as [1000, 1, 1, 1], so that they broadcast over latents."""
    signal, noise = (scale.view(-1, 1, 1, 1).to(device) for scale in signal_and_noise())
    return signal, noise


def sample_timesteps(count: int, generator: torch.Generator, logit_normal_share: float) -> torch.Tensor:
    """Sample the timesteps of a batch.

    Args:
        count: number of timesteps.
        generator: source of randomness; its device is used.
        logit_normal_share: sampled around the middle, where captions matter most. The rest is uniform.
    """
    device = generator.device
    uniform = torch.rand(count, generator=generator, device=device)
    middle = torch.sigmoid(torch.randn(count, generator=generator, device=device) + 0.3)
    share = torch.rand(count, generator=generator, device=device)
    chosen = torch.where(share < logit_normal_share, middle, uniform)
    return (chosen * TIMESTEPS).long().clamp(0, TIMESTEPS - 1)


@torch.no_grad()
def sample_latents(
    unet: Network, text_encoder: Network, ids: torch.Tensor, empty: torch.Tensor, seed: int
) -> torch.Tensor:
    """Sample latents [n, 16, 8, 8] for captions [n, 16] with DDIM and classifier-free guidance."""
    device = next(unet.parameters()).device
    signal, noise = signal_and_noise()
    with autocast(device):
        states = text_encoder(torch.cat([empty.to(ids).expand_as(ids), ids]).to(device)).last_hidden_state
    shape = (len(ids), unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)
    times = [round(TIMESTEPS - 1 - (TIMESTEPS - 1) * step / STEPS) for step in range(STEPS)]
    for t, after in zip(times, [*times[1:], None], strict=True):
        with autocast(device):
            velocity = unet(torch.cat([latents, latents]), t, states).sample.float()
        plain, prompted = velocity.chunk(2)
        velocity = plain + GUIDANCE * (prompted - plain)
        clean = signal[t] * latents - noise[t] * velocity
        residue = noise[t] * latents + signal[t] * velocity
        latents = clean if after is None else signal[after] * clean + noise[after] * residue
    return latents.cpu()


def as_images(pictures: torch.Tensor) -> list[Image.Image]:
    """Convert pictures [n, 3, h, w] in [-1, 1] to images."""
    levels = ((pictures.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(level) for level in levels]


def write_grid(pictures: torch.Tensor, path: Path, columns: int, zoom: int = 2) -> None:
    """Write pictures [n, 3, h, w] as a grid in a PNG file."""
    side = pictures.shape[-1]
    rows = -(-len(pictures) // columns)
    grid = Image.new("RGB", (columns * (side + 2), rows * (side + 2)))
    for index, image in enumerate(as_images(pictures)):
        grid.paste(image, (index % columns * (side + 2), index // columns * (side + 2)))
    path.parent.mkdir(parents=True, exist_ok=True)
    grid.resize((grid.width * zoom, grid.height * zoom), Image.Resampling.NEAREST).save(path)
