"""Pictures of networks in training: DDIM on the trailing steps, and grids."""

from pathlib import Path

import torch
from PIL import Image

from models.emoji.train.device import Network, autocast
from models.emoji.train.schedule import TIMESTEPS, signal_and_noise

STEPS = 20
GUIDANCE = 2.0


@torch.no_grad()
def draw_latents(
    unet: Network, text_encoder: Network, ids: torch.Tensor, empty: torch.Tensor, seed: int
) -> torch.Tensor:
    """Latents [n, 16, 8, 8] of captions [n, 16], with classifier-free guidance."""
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
    """Pictures [n, 3, h, w] in [-1, 1] as images."""
    levels = ((pictures.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(level) for level in levels]


def write_grid(pictures: torch.Tensor, path: Path, columns: int, zoom: int = 2) -> None:
    """Pictures [n, 3, h, w] side by side, as a PNG."""
    side = pictures.shape[-1]
    rows = -(-len(pictures) // columns)
    grid = Image.new("RGB", (columns * (side + 2), rows * (side + 2)))
    for index, image in enumerate(as_images(pictures)):
        grid.paste(image, (index % columns * (side + 2), index // columns * (side + 2)))
    path.parent.mkdir(parents=True, exist_ok=True)
    grid.resize((grid.width * zoom, grid.height * zoom), Image.Resampling.NEAREST).save(path)
