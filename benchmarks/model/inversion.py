"""Textual Inversion with backpropagation on held-out subjects."""

import math
import random
from typing import Any

import numpy as np
import torch

from models.emoji.compose import caption, draw_scene
from models.emoji.train.data import as_tensor
from models.emoji.train.device import plain_attention
from models.emoji.train.sampling import GUIDANCE, STEPS, broadcast_signal_and_noise
from models.emoji.world import Scene, World

REFERENCES = 4
BATCH = 4
STEPS_TRAINED = 450
RATE = 0.04
FIRST_T, LAST_T = 300, 950


class Inversion:
    """One learned embedding for each subject, all subjects in one batch; the model is frozen."""

    def __init__(
        self, pipeline: Any, world: World, subjects: list[tuple[str, str, str]], initializers: list[str]
    ) -> None:
        self.pipeline, self.world, self.subjects = pipeline, world, subjects
        self.rng = torch.Generator().manual_seed(0)
        for part in (pipeline.unet, pipeline.text_encoder, pipeline.vae):
            part.requires_grad_(False).eval()
        plain_attention(pipeline.unet, pipeline.text_encoder)
        self.table = pipeline.text_encoder.get_input_embeddings().weight
        self.slots = torch.tensor(
            [self._word(name) for name, _, _ in subjects]
        )  # the token that the learned row replaces
        self.learned = self.table[[self._word(word) for word in initializers]].clone().requires_grad_(True)
        self.signal, self.noise = broadcast_signal_and_noise(torch.device("cpu"))
        self._encode_references()

    def _word(self, word: str) -> int:
        """Return the token id of a word."""
        return int(self.pipeline.tokenizer(word).input_ids[1])

    def _encode_references(self) -> None:
        """Encode latents [subjects, references, 16, 8, 8] and token ids [subjects, references, 16]."""
        latents, captions = [], []
        for index, subject in enumerate(self.subjects):
            draws = random.Random(500 + index)
            grounds = draws.sample(self.world.backgrounds, REFERENCES)
            pictures = [draw_scene(Scene(*subject, ground), draws, self.world) for ground in grounds]
            stack = as_tensor(np.stack([np.asarray(picture) for picture in pictures]))
            with torch.no_grad():
                means = self.pipeline.vae.encode(stack).latent_dist.mean
            latents.append(means * self.pipeline.vae.config.scaling_factor)
            captions.append([caption(subject[0], ground) for ground in grounds])
        self.latents = torch.stack(latents)
        self.ids = torch.stack([self._ids(row) for row in captions])

    def _ids(self, texts: list[str]) -> torch.Tensor:
        """Return padded token ids."""
        ids: torch.Tensor = self.pipeline.tokenizer(
            texts, padding="max_length", return_tensors="pt"
        ).input_ids
        return ids

    def states(self, ids: torch.Tensor, subjects: torch.Tensor) -> torch.Tensor:
        """Return text states [rows, 16, width] with the subject's learned embedding in each row's slot."""
        rows = torch.where(
            (ids == self.slots[subjects][:, None])[..., None],
            self.learned[subjects][:, None],
            self.table[ids],
        )
        text: Any = self.pipeline.text_encoder
        return encode_embeddings(text, ids, rows)

    def train(self, steps: int = STEPS_TRAINED) -> None:
        """Run Adam with a decaying rate on the denoising losses of all subjects."""
        adam = torch.optim.Adam([self.learned], RATE)
        count = len(self.subjects)
        for step in range(steps):
            for group in adam.param_groups:
                group["lr"] = RATE * (0.5 + 0.5 * math.cos(math.pi * step / steps))
            subjects = torch.arange(count).repeat_interleave(BATCH)
            chosen = torch.randint(0, REFERENCES, (count * BATCH,), generator=self.rng)
            latents, ids = self.latents[subjects, chosen], self.ids[subjects, chosen]
            t = torch.randint(FIRST_T, LAST_T, (count * BATCH,), generator=self.rng)
            noise = torch.randn(latents.shape, generator=self.rng)
            noisy = self.signal[t] * latents + self.noise[t] * noise
            velocity = self.signal[t] * noise - self.noise[t] * latents
            predicted = self.pipeline.unet(noisy, t, self.states(ids, subjects)).sample
            loss = (predicted - velocity).square().flatten(1).mean(1).view(count, BATCH).mean(1).sum()
            adam.zero_grad()
            loss.backward()
            adam.step()

    @torch.no_grad()
    def draw(self, backgrounds: list[str], seed: int) -> tuple[torch.Tensor, list[Scene]]:
        """Draw every subject on every background; return the pictures and the scenes that they should show."""
        subjects = torch.arange(len(self.subjects)).repeat_interleave(len(backgrounds))
        texts = [caption(subject[0], ground) for subject in self.subjects for ground in backgrounds]
        scenes = [Scene(*subject, ground) for subject in self.subjects for ground in backgrounds]
        generators = [torch.Generator().manual_seed(seed + index) for index in range(len(texts))]
        states = self.states(self._ids(texts), subjects)
        empty = self.pipeline.text_encoder(self._ids([""])).last_hidden_state.expand_as(states)
        found = self.pipeline(
            prompt_embeds=states,
            negative_prompt_embeds=empty,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=generators,
            output_type="pt",
        )
        return found.images.float() * 2 - 1, scenes


def encode_embeddings(text_encoder: Any, ids: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
    """Return the text encoder's states for input embeddings that replace those of the table."""

    def replaced(_module: object, _inputs: object, _output: torch.Tensor) -> torch.Tensor:
        return embeddings

    hook = text_encoder.get_input_embeddings().register_forward_hook(replaced)
    try:
        states: torch.Tensor = text_encoder(ids).last_hidden_state
    finally:
        hook.remove()
    return states
