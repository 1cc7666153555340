"""The autoencoder: a fixed PCA encoder (`pca_encoder.py`) and a decoder trained by regression on its latents.

The decoder's two lowest levels have auxiliary targets: a cell of the 16 × 16 level predicts its 4 × 4 pixels, a cell
of the 32 × 32 level its 2 × 2 pixels. The linear heads that predict them are dropped after training.
"""

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional

from models.emoji.settings import AutoencoderSettings
from models.emoji.tokenizer import build_vocabulary, word_ids
from models.emoji.train.compatibility import check_sizes, compatibility_key
from models.emoji.train.components import Components, work_components
from models.emoji.train.data import VALIDATION_SEED, PictureSet, StyledSampler, compose_set
from models.emoji.train.device import Network, autocast, batches, best_device, plain_attention
from models.emoji.train.loop import Training, log, step_generator
from models.emoji.train.networks import Networks, read_part
from models.emoji.train.optimizer import Optimizer
from models.emoji.train.pca_encoder import POSTERIOR_STD, new_autoencoder
from models.emoji.train.sampling import broadcast_signal_and_noise, write_grid
from models.emoji.world import World

PART = "autoencoder"
LEVEL_WEIGHT = 0.2
MAX_NOISE_STD = 0.2  # added to latents in training, because sampled latents are never exact
LAST_T = 400  # noisiest timestep of a one-step prediction; beyond it the decoder would learn to blur


def psnr_db(pictures: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the peak signal-to-noise ratio of each picture in dB; both inputs are in [-1, 1]."""
    return -10 * torch.log10((pictures.clamp(-1, 1) - targets).square().flatten(1).mean(1) / 4)


class OneStepPredictions:
    """One-step predictions of clean latents by the frozen U-Net, from noisy latents and captions.

    Sampling ends on such a prediction, which lacks detail of flat blocks and bands. A decoder that is also trained on
    predicted latents draws these blocks.
    """

    def __init__(self, nets: Networks, world: World, captions: list[str]) -> None:
        """Freeze the networks and tokenize the captions of the training set."""
        self._device = best_device()
        self._unet, self._text_encoder = (
            part.requires_grad_(False).eval().to(self._device) for part in (nets.unet, nets.text_encoder)
        )
        plain_attention(self._unet, self._text_encoder)
        self._ids = torch.tensor(word_ids(captions, build_vocabulary(world.words))).to(self._device)
        self._signal, self._noise = broadcast_signal_and_noise(self._device)

    @torch.no_grad()
    def __call__(self, latents: torch.Tensor, chosen: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """Predict latents [rows, 16, 8, 8] from a noisy version of each.

        Args:
            latents: of the chosen pictures, on the networks' device.
            chosen: indices into the training set, [rows].
            rng: samples timesteps and noise.
        """
        t = torch.randint(0, LAST_T + 1, (len(latents),), generator=rng, device=self._device)
        noise = torch.randn(latents.shape, generator=rng, device=self._device)
        noisy = self._signal[t] * latents + self._noise[t] * noise
        with autocast(self._device):
            states = self._text_encoder(self._ids[chosen]).last_hidden_state
            velocity = self._unet(noisy, t, states).sample.float()
        predicted: torch.Tensor = self._signal[t] * noisy - self._noise[t] * velocity
        return predicted


class LevelHeads(nn.Module):
    """Auxiliary linear heads that predict pixels from the decoder's lower levels."""

    def __init__(self, decoder: Network, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.sides_px = (4, 2)  # of a cell at the first and second level
        self.heads = nn.ModuleList(
            nn.Conv2d(width, 3 * side**2, 1)
            for width, side in zip((channels[-1], channels[-2]), self.sides_px, strict=True)
        )
        self.outputs: dict[int, torch.Tensor] = {}
        for level in range(len(self.sides_px)):
            decoder.up_blocks[level].register_forward_hook(
                lambda _module, _inputs, output, level=level: self.outputs.__setitem__(level, output)
            )

    def loss(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return the squared error of both levels in the last forward pass."""
        total = torch.zeros((), device=pictures.device)
        for level, (head, side) in enumerate(zip(self.heads, self.sides_px, strict=True)):
            cells = functional.pixel_unshuffle(pictures, side)
            total = total + (head(self.outputs[level]).float() - cells).square().mean()
        return total


class DecoderLoss:
    """Mean squared error of the decoded pictures and of the auxiliary heads."""

    def __init__(
        self,
        model: Network,
        heads: LevelHeads,
        pictures: PictureSet,
        components: Components,
        settings: AutoencoderSettings,
        predictions: OneStepPredictions | None,
    ) -> None:
        self.device, self.model, self.heads = best_device(), model, heads
        self.pictures, self.components, self.settings = pictures, components, settings
        self.sampler = StyledSampler(pictures.scenes, settings.styled_share)
        self.predictions = predictions

    def _latents(self, pictures: torch.Tensor, chosen: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """Return noisy latents of the pictures; the first rows are U-Net predictions if there is a U-Net."""
        latents = self.components.encode(pictures)
        share = torch.rand(len(latents), 1, 1, 1, generator=rng, device=self.device)
        amplitude = POSTERIOR_STD + MAX_NOISE_STD * share**2
        noisy = latents + amplitude * torch.randn(latents.shape, generator=rng, device=self.device)
        if self.predictions is None:
            return noisy
        count = round(self.settings.guessed_share * len(latents))
        return torch.cat([self.predictions(latents[:count], chosen[:count], rng), noisy[count:]])

    def __call__(self, step: int) -> torch.Tensor:
        """Return the loss of the step's batch."""
        rng = step_generator(PART, step, self.device)
        chosen = self.sampler(self.settings.batch, rng)
        pictures = self.pictures.batch(chosen.tolist(), self.device)
        latents = self._latents(pictures, chosen, rng)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        with autocast(self.device):
            decoded = self.model.decode(latents.contiguous(memory_format=torch.channels_last)).sample
            auxiliary = self.heads.loss(pictures)
        loss: torch.Tensor = (decoded.float() - pictures).square().mean() + LEVEL_WEIGHT * auxiliary
        return loss


def load_autoencoder(settings: AutoencoderSettings, components: Components, start: Path | None) -> Network:
    """Load the autoencoder of a model folder, or create one if `start` is None.

    Raises:
        CheckpointError: the folder is missing, broken, or of other sizes.
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


def log_reconstruction(model: Network, components: Components, held_back: torch.Tensor, path: Path) -> None:
    """Log the PSNR of decoded pictures and write a grid of original and decoded pairs to `path`."""
    device = best_device()
    with torch.no_grad():
        latents = components.encode(held_back).to(device)
        decoded = torch.cat([model.decode(part).sample.cpu() for part in batches(latents, 50)])
    psnr = psnr_db(decoded, held_back)
    log(PART, f"{path.stem}: {psnr.mean():.2f} dB (worst {psnr.min():.1f})")
    write_grid(torch.stack([held_back[:32], decoded[:32]], 1).flatten(0, 1), path, columns=8)


def _trained_parameters(model: Network, heads: LevelHeads) -> dict[str, nn.Parameter]:
    """Return the parameters of the decoder and of the auxiliary heads."""
    named = {name: param for name, param in model.named_parameters() if name.startswith("decoder.")}
    return named | {f"heads.{name}": param for name, param in heads.named_parameters()}


def train_autoencoder(
    settings: AutoencoderSettings,
    world: World,
    pictures: PictureSet,
    folder: Path,
    start: Path | None,
    nets: Networks | None,
) -> None:
    """Train the decoder; write the checkpoint, figures and grids to `folder`.

    Args:
        settings: of the autoencoder.
        world: of the captions.
        pictures: the training set.
        folder: of the components and the checkpoint.
        start: the model folder to start from; None for a new decoder.
        nets: the U-Net and text encoder that predict a share of the latents; None for encoded latents only.

    Raises:
        CheckpointError: the initial weights or the checkpoint do not match the settings.
        DivergedError: the loss is not finite.
    """
    components, device = work_components(folder), best_device()
    model = load_autoencoder(settings, components, start)
    predictions = OneStepPredictions(nets, world, pictures.captions) if nets else None
    log(PART, "latents: encoded" + (" and predicted by the U-Net" if predictions else ""))
    model.to(device=device, memory_format=torch.channels_last)
    heads = LevelHeads(model.decoder, settings.channels).to(device)
    optimizer = Optimizer(_trained_parameters(model, heads), settings.rate, settings.average)
    held_back = compose_set(VALIDATION_SEED, 200).batch(range(200))
    loss = DecoderLoss(model, heads, pictures, components, settings, predictions)

    def log_samples(step: int) -> None:
        log_reconstruction(model, components, held_back, folder / f"{PART}-{step:06d}.png")

    key = compatibility_key(settings, components=components.digest)
    training = Training(PART, settings, folder, key, optimizer, loss, log_samples)
    training.resume(start)
    training.run()
