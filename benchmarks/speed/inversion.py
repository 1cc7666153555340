"""Textual Inversion with backpropagation, in the manner of diffusers' training script."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch

from benchmarks.engine.measure import SUBJECT
from benchmarks.speed.plain_models import TEMPLATES, PlainModels

RATE = 5e-3


class TextualInversion:
    """One token at batch size 1: AdamW on the whole embedding table, whose other rows are then restored."""

    searches = 1

    def __init__(self, models: PlainModels, *, checkpointing: bool) -> None:
        """Start with zero moments.

        Args:
            models: the frozen base model.
            checkpointing: whether the U-Net repeats its forward pass in the backward pass to store fewer activations.
        """
        self.models, self.weights = models, models.weights
        if checkpointing:
            models.unet.enable_gradient_checkpointing()
        self._image = models.noise_image(0)
        self._tables = [text.get_input_embeddings().weight.requires_grad_(True) for text in models.texts]
        self._initial = [table.detach().clone() for table in self._tables]
        self._adam = torch.optim.AdamW(self._tables, RATE)

    def watch(self, on_pass: Callable[[int], None]) -> None:
        """Call a function with the number of rows of each pass of the U-Net."""
        self.models.watch(on_pass)

    def step(self) -> None:
        """Run one step: encode the image, evaluate the loss, propagate it back, and update the token."""
        models = self.models
        pixels = self._image.flip(-1) if random.random() < 0.5 else self._image
        ids = models.token_ids_of(random.choice(TEMPLATES).format(SUBJECT.token))
        with torch.no_grad():
            latents = models.encode_image(pixels)
        total = int(models.scheduler.config.num_train_timesteps)
        loss = models.loss(*models.noisy(latents, 0, total), ids)
        loss.backward()  # type: ignore[no-untyped-call]
        self._adam.step()
        self._adam.zero_grad()
        with torch.no_grad():
            for table, initial, token_id in zip(self._tables, self._initial, models.token_ids, strict=True):
                row = table[token_id].clone()
                table.copy_(initial)
                table[token_id] = row
