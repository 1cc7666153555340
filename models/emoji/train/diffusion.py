"""Train U-Net and text encoder together on principal-component latents with v-prediction."""

import random
from pathlib import Path

import torch

from models.emoji.compose import scene_caption
from models.emoji.settings import DiffusionSettings
from models.emoji.tokenizer import build_vocabulary, word_ids
from models.emoji.train.compatibility import compatibility_key
from models.emoji.train.components import Components, work_components
from models.emoji.train.data import PictureSet, StyledSampler, as_tensor
from models.emoji.train.device import autocast, best_device, plain_attention
from models.emoji.train.loop import Training, log, step_generator
from models.emoji.train.networks import PART, Networks, load_networks
from models.emoji.train.optimizer import Optimizer
from models.emoji.train.sampling import (
    broadcast_signal_and_noise,
    sample_latents,
    sample_timesteps,
    write_grid,
)
from models.emoji.world import PLAIN, Scene, World


def encode_set(pictures: PictureSet, components: Components, device: torch.device) -> torch.Tensor:
    """Return the latents of a training set on a device, [n, 16, 8, 8] in fp16."""
    count = len(pictures.captions)
    chunks = (range(first, min(first + 1000, count)) for first in range(0, count, 1000))
    return torch.cat(
        [components.encode(as_tensor(pictures.pictures[part], device)).half() for part in chunks]
    )


class DiffusionLoss:
    """Mean squared error of the predicted velocity. The step number determines the batch."""

    def __init__(
        self,
        nets: Networks,
        settings: DiffusionSettings,
        pictures: PictureSet,
        components: Components,
        vocabulary: dict[str, int],
    ) -> None:
        self.device, self.settings = best_device(), settings
        self.latents = encode_set(pictures, components, self.device)
        self.ids, self.empty = (
            torch.tensor(word_ids(texts, vocabulary)).to(self.device) for texts in (pictures.captions, [""])
        )
        self.sampler = StyledSampler(pictures.scenes, settings.styled_share)
        compiled = self.device.type == "cuda"  # on a CPU: a tenth faster, after minutes of compiling
        self.unet = torch.compile(nets.unet) if compiled else nets.unet
        self.text_encoder = torch.compile(nets.text_encoder) if compiled else nets.text_encoder
        self.signal, self.noise = broadcast_signal_and_noise(self.device)

    def __call__(self, step: int) -> torch.Tensor:
        """Return the loss of the step's batch."""
        rng, rows = step_generator(PART, step, self.device), self.settings.batch
        chosen = self.sampler(rows, rng)
        latents = self.latents[chosen].float().contiguous(memory_format=torch.channels_last)
        dropped = torch.rand(rows, generator=rng, device=self.device) < self.settings.caption_dropout
        ids = torch.where(dropped[:, None], self.empty, self.ids[chosen])
        noise = torch.randn(latents.shape, generator=rng, device=self.device)
        noise = noise.contiguous(memory_format=torch.channels_last)
        t = sample_timesteps(rows, rng, self.settings.logit_normal_share)
        noisy = self.signal[t] * latents + self.noise[t] * noise
        velocity = self.signal[t] * noise - self.noise[t] * latents
        with autocast(self.device):
            states = self.text_encoder(ids).last_hidden_state
            predicted = self.unet(noisy, t, states).sample
        return self.combined((predicted.float() - velocity).square(), t)

    def combined(self, errors: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Reduce squared errors [rows, 16, 8, 8] at timesteps [rows] to one loss, with equal weights."""
        del timesteps
        return errors.mean()


def sample_captions(world: World, pictures: PictureSet) -> list[str]:
    """Return 64 captions for the sample grid: 48 of the training set and 16 of held-out items."""
    rng = random.Random(5)
    held = [Scene(*subject, rng.choice(world.backgrounds)) for subject in world.held_out.subjects[:12]]
    held += [Scene("cat", PLAIN, PLAIN, "on the grass", style) for style in world.held_out.styles[:4]]
    return pictures.captions[:48] + [scene_caption(scene) for scene in held]


def train_diffusion(
    settings: DiffusionSettings, world: World, pictures: PictureSet, folder: Path, start: Path | None
) -> None:
    """Train U-Net and text encoder; write the checkpoint and sample grids to `folder`.

    Raises:
        CheckpointError: the initial weights or the checkpoint do not match the settings or the world.
        DivergedError: the loss is not finite.
    """
    components, vocabulary = work_components(folder), build_vocabulary(world.words)
    nets = load_networks(settings, world, start)
    device = best_device()
    plain_attention(nets.unet, nets.text_encoder)
    for part in (nets.unet, nets.text_encoder):
        part.to(device=device, memory_format=torch.channels_last).train()
    optimizer = Optimizer(nets.named_parameters(), settings.rate, settings.average)
    loss = DiffusionLoss(nets, settings, pictures, components, vocabulary)

    def log_samples(step: int) -> None:
        captions = sample_captions(world, pictures)
        prompts = torch.tensor(word_ids(captions, vocabulary))
        latents = sample_latents(nets.unet, nets.text_encoder, prompts, loss.empty, seed=0)
        path = folder / f"{PART}-{step:06d}.png"
        write_grid(components.decode(latents), path, columns=8)
        log(PART, f"samples of step {step} in {path}")

    key = compatibility_key(settings, world.words, components.digest)
    training = Training(PART, settings, folder, key, optimizer, loss, log_samples)
    training.resume(start)
    training.run()
