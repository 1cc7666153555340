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
from models.emoji.train.components import Components, work_components
from models.emoji.train.data import VALIDATION_SEED, PictureSet, StyledChoice, compose_set
from models.emoji.train.device import Network, autocast, batches, best_device
from models.emoji.train.fit import check_sizes, made_for
from models.emoji.train.folder import read_part
from models.emoji.train.guesses import Guesses
from models.emoji.train.loop import Training, log, step_generator
from models.emoji.train.networks import Networks
from models.emoji.train.optim import Optimiser
from models.emoji.train.sampling import write_grid
from models.emoji.train.wiring import POSTERIOR_STD, new_autoencoder
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
        share = torch.rand(len(latents), 1, 1, 1, generator=rng, device=self.device)
        amplitude = POSTERIOR_STD + ROUGHNESS * share**2
        rough = latents + amplitude * torch.randn(latents.shape, generator=rng, device=self.device)
        if self.guesses is None:
            return rough
        count = round(self.settings.guessed_share * len(latents))
        return torch.cat([self.guesses(latents[:count], chosen[:count], rng), rough[count:]])

    def __call__(self, step: int) -> torch.Tensor:
        """The loss of the step's batch."""
        rng = step_generator(PART, step, self.device)
        chosen = self.choice(self.settings.batch, rng)
        pictures = self.pictures.batch(chosen.tolist(), self.device)
        latents = self._latents(pictures, chosen, rng)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        with autocast(self.device):
            decoded = self.model.decode(latents.contiguous(memory_format=torch.channels_last)).sample
            below = self.heads.loss(pictures)
        loss: torch.Tensor = (decoded.float() - pictures).square().mean() + LEVEL_WEIGHT * below
        return loss


def started_autoencoder(settings: AutoencoderSettings, components: Components, start: Path | None) -> Network:
    """The autoencoder of a model folder, or a wired one with a fresh decoder for None.

    Raises:
        CheckpointError: the folder is missing, truncated, or of other sizes.
    """
    if start is None:
        return new_autoencoder(settings, components)
    model = read_part(AutoencoderKL, start / "vae")
    sizes = {
        "channels": model.config.block_out_channels,
        "layers_per_block": model.config.layers_per_block,
        "norm_groups": model.config.norm_num_groups,
    }
    check_sizes(PART, settings.sizes, sizes, start)
    return model


def show_pairs(model: Network, components: Components, held_back: torch.Tensor, path: Path) -> None:
    """Log how near decoded pictures are to their originals; a grid of pairs, original and decoded, goes to `path`."""
    device = best_device()
    with torch.no_grad():
        latents = components.encode(held_back).to(device)
        decoded = torch.cat([model.decode(part).sample.cpu() for part in batches(latents, 50)])
    figure = decibels(decoded, held_back)
    log(PART, f"{path.stem}: {figure.mean():.2f} dB (worst {figure.min():.1f})")
    write_grid(torch.stack([held_back[:32], decoded[:32]], 1).flatten(0, 1), path, columns=8)


def train_autoencoder(
    settings: AutoencoderSettings,
    world: World,
    pictures: PictureSet,
    folder: Path,
    start: Path | None,
    nets: Networks | None,
) -> None:
    """Train the decoder until the settings' pictures are seen; checkpoint, figures and grids in `folder`.

    Args:
        settings: of the autoencoder.
        world: of the captions.
        pictures: the training set.
        folder: of the checkpoint.
        start: the model folder to start from; None for a fresh decoder.
        nets: the U-Net and text encoder that say part of the latents; None for the pictures' own alone.

    Raises:
        CheckpointError: the weights to start from, or the checkpoint, do not fit the settings.
        DivergedError: the loss is not finite.
    """
    components, device = work_components(folder), best_device()
    model = started_autoencoder(settings, components, start)
    guesses = None if nets is None else Guesses(nets, world, pictures.captions)
    log(PART, "latents: the pictures' own" + ("" if guesses is None else ", and by the U-Net's word"))
    model.to(device=device, memory_format=torch.channels_last)
    heads = LevelHeads(model.decoder, settings.channels).to(device)
    named = {name: param for name, param in model.named_parameters() if name.startswith("decoder.")}
    named |= {f"heads.{name}": param for name, param in heads.named_parameters()}
    optimiser = Optimiser(named, settings.rate, settings.average)
    held_back = compose_set(VALIDATION_SEED, 200).batch(range(200))
    loss = DecoderLoss(model, heads, pictures, components, settings, guesses)

    def show(step: int) -> None:
        show_pairs(model, components, held_back, folder / f"{PART}-{step:06d}.png")

    made = made_for(settings, components=components.digest)
    training = Training(PART, settings, folder, made, optimiser, loss, show)
    training.resume(start)
    training.run()
