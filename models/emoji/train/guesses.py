"""Latents as the U-Net says they were: what the decoder will be given, in place of a picture's own.

A sampler ends on the U-Net's word, which lacks some of what tells flat blocks and bands from smooth shades. A decoder
that has seen such latents beside the true pictures draws the blocks.
"""

import torch

from models.emoji.tokenizer import build_vocabulary, word_ids
from models.emoji.train.device import autocast, best_device, plain_attention
from models.emoji.train.networks import Networks
from models.emoji.train.schedule import shares_of_rows
from models.emoji.world import World

LAST_T = 400
"""The noisiest timestep: beyond it the U-Net's guess is another picture, and the decoder would learn to blur."""


class Guesses:
    """The frozen U-Net's one-step guess at the latents of captioned pictures."""

    def __init__(self, nets: Networks, world: World, captions: list[str]) -> None:
        """Freeze the networks, and note what the pictures of the training set are said to show."""
        self._device = best_device()
        self._unet, self._text_encoder = (
            part.requires_grad_(False).eval().to(self._device) for part in (nets.unet, nets.text_encoder)
        )
        plain_attention(self._unet, self._text_encoder)
        self._ids = torch.tensor(word_ids(captions, build_vocabulary(world.words))).to(self._device)
        self._signal, self._noise = shares_of_rows(self._device)

    @torch.no_grad()
    def __call__(self, latents: torch.Tensor, chosen: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """The guess at latents [rows, 16, 8, 8] from a noisy version of each.

        Args:
            latents: of the chosen pictures, on the networks' device, as all here.
            chosen: their places in the training set, [rows].
            rng: draws timesteps and noise.
        """
        t = torch.randint(0, LAST_T + 1, (len(latents),), generator=rng, device=self._device)
        noise = torch.randn(latents.shape, generator=rng, device=self._device)
        noisy = self._signal[t] * latents + self._noise[t] * noise
        with autocast(self._device):
            states = self._text_encoder(self._ids[chosen]).last_hidden_state
            velocity = self._unet(noisy, t, states).sample.float()
        guess: torch.Tensor = self._signal[t] * noisy - self._noise[t] * velocity
        return guess
