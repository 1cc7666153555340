"""The autoencoder: a wired encoder (`wiring.py`), and a decoder trained by regression on its latents.

The decoder's lower levels get targets of their own: a cell of the 16 × 16 level knows its 4 × 4 pixels, a cell
of the 32 × 32 level its 2 × 2, each through a linear head that is dropped afterwards.
"""

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional

from models.emoji.settings import AutoencoderSettings
from models.emoji.train.components import Components, read_components
from models.emoji.train.data import VALIDATION_SEED, PictureSet, StyledChoice, compose_set
from models.emoji.train.device import Network, autocast, batches, best_device
from models.emoji.train.folder import read_part
from models.emoji.train.guesses import Guesses
from models.emoji.train.loop import Training, log, step_generator
from models.emoji.train.optim import Optimiser
from models.emoji.train.sampling import write_grid
from models.emoji.train.wiring import POSTERIOR_STD, encoder_error, new_autoencoder
from models.emoji.world import World

PART = "autoencoder"
LEVEL_WEIGHT = 0.2
ROUGHNESS = 0.2  # of the roughest latents: what a U-Net draws is never quite a picture's latent


def decibels(pictures: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Peak signal to noise of each picture, in dB; both in [-1, 1]."""
    return -10 * torch.log10((pictures.clamp(-1, 1) - targets).square().flatten(1).mean(1) / 4)


class LevelHeads(nn.Module):
    """Linear heads that read the pixels of a cell from the decoder's lower levels."""

    def __init__(self, decoder: Network, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.sides_px = (4, 2)  # of a cell at the first and second level
        self.heads = nn.ModuleList(
            nn.Conv2d(width, 3 * side**2, 1)
            for width, side in zip((channels[-1], channels[-2]), self.sides_px, strict=True)
        )
        self.seen: dict[int, torch.Tensor] = {}
        for level in range(len(self.sides_px)):
            decoder.up_blocks[level].register_forward_hook(
                lambda _module, _inputs, output, level=level: self.seen.__setitem__(level, output)
            )

    def loss(self, pictures: torch.Tensor) -> torch.Tensor:
        """How far the levels of the last forward are from the pictures' pixels."""
        total = torch.zeros((), device=pictures.device)
        for level, (head, side) in enumerate(zip(self.heads, self.sides_px, strict=True)):
            cells = functional.pixel_unshuffle(pictures, side)
            total = total + (head(self.seen[level]).float() - cells).square().mean()
        return total


class DecoderLoss:
    """The mean squared error of the decoded pictures, and of the levels below."""

    def __init__(
        self,
        model: Network,
        heads: LevelHeads,
        pictures: PictureSet,
        components: Components,
        settings: AutoencoderSettings,
        guesses: Guesses | None,
    ) -> None:
        self.device, self.model, self.heads = best_device(), model, heads
        self.pictures, self.components, self.settings = pictures, components, settings
        self.choice = StyledChoice(pictures.scenes, settings.styled_share)
        self.guesses = guesses

    def _latents(self, pictures: torch.Tensor, chosen: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """Rough latents of the pictures; the first of them by the U-Net's word, where there is one."""
        latents = self.components.encode(pictures)
        amplitude = POSTERIOR_STD + ROUGHNESS * torch.rand(len(latents), 1, 1, 1, generator=rng) ** 2
        rough = latents + amplitude * torch.randn(latents.shape, generator=rng)
        if self.guesses is None:
            return rough
        count = round(self.settings.guessed_share * len(latents))
        return torch.cat([self.guesses(latents[:count], chosen[:count], rng), rough[count:]])

    def __call__(self, step: int) -> torch.Tensor:
        """The loss of the step's batch."""
        rng = step_generator(PART, step)
        chosen = self.choice(self.settings.batch, rng)
        pictures = self.pictures.batch(chosen.tolist())
        latents = self._latents(pictures, chosen, rng)
        pictures = pictures.to(self.device, memory_format=torch.channels_last)
        with autocast(self.device):
            decoded = self.model.decode(latents.to(self.device, memory_format=torch.channels_last)).sample
            below = self.heads.loss(pictures)
        loss: torch.Tensor = (decoded.float() - pictures).square().mean() + LEVEL_WEIGHT * below
        return loss


def train_autoencoder(
    settings: AutoencoderSettings, world: World, pictures: PictureSet, folder: Path, start: Path | None
) -> None:
    """Train the decoder until the settings' pictures are seen; checkpoint, figures and grid in `folder`.

    With a model folder to start from, its U-Net gives part of the latents.
    """
    components, device = read_components(), best_device()
    if start is not None and (start / "vae").exists():
        model = read_part(AutoencoderKL, start / "vae")
        log(PART, f"starts from {start.name}/")
    else:
        model = new_autoencoder(settings, components)
    guesses = None
    if start is not None and (start / "unet").exists():
        guesses = Guesses(start, world, pictures.captions)
    model.to(device=device, memory_format=torch.channels_last)
    heads = LevelHeads(model.decoder, settings.channels).to(device)
    named = {name: param for name, param in model.named_parameters() if name.startswith("decoder.")}
    named |= {f"heads.{name}": param for name, param in heads.named_parameters()}
    optimiser = Optimiser(named, settings.rate, settings.average)
    held_back = compose_set(VALIDATION_SEED, 200)

    def show(step: int) -> None:
        for name, param in named.items():
            param.data.copy_(optimiser.average[name])
        targets = held_back.batch(range(len(held_back.captions)))
        with torch.no_grad():
            latents = components.encode(targets).to(device)
            decoded = torch.cat([model.decode(part).sample.cpu() for part in batches(latents, 50)])
        figure = decibels(decoded, targets)
        error = (
            encoder_error(model, components, targets[:50].to(device))
            if device.type == "cpu"
            else float("nan")
        )
        log(
            PART, f"step {step}: {figure.mean():.2f} dB (worst {figure.min():.1f}), encoder error {error:.1e}"
        )
        pairs = torch.stack([targets[:32], decoded[:32]], 1).flatten(0, 1)
        write_grid(pairs, folder / f"{PART}-{step:06d}.png", columns=8)

    training = Training(
        PART,
        settings,
        folder,
        optimiser,
        DecoderLoss(model, heads, pictures, components, settings, guesses),
        show,
    )
    training.resume()
    training.run()
