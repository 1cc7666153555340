"""The published procedure, written from its description: no row is batched and nothing is cached.

Source: arXiv:2503.14868v1, Alg. 1 and 2, and docs/explanation/algorithm.md for what only the published script has.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.engine.measure import SUBJECT
from benchmarks.speed.plain_models import TEMPLATES, PlainModels
from zoodip_core.config import SearchSettings
from zoodip_core.zeroth_order.estimator import dimension_divisor
from zoodip_core.zeroth_order.subspace import SubspaceGradient


class PublishedSearch:
    """One search with n + 1 forward passes in sequence, and one pass of the VAE encoder in every step.

    The token is a row of the embedding table. It is perturbed in place, in the data type of the text encoder.
    """

    searches = 1

    def __init__(self, models: PlainModels) -> None:
        self.models, self.weights = models, models.weights
        self._settings = SearchSettings.parse({})
        self._image = models.noise_image(0)
        self._rows = models.rows
        self._theta = torch.cat([row.float() for row in self._rows])
        self._adam = torch.optim.Adam(
            [self._theta],
            self._settings.learning_rate,
            betas=(self._settings.adam_beta1, self._settings.adam_beta2),
            eps=self._settings.adam_eps,
        )
        self._subspace = SubspaceGradient.from_settings(len(self._theta), self._settings)
        self._step = 0

    def watch(self, on_pass: Callable[[int], None]) -> None:
        """Call a function with the number of rows of each pass of the U-Net."""
        self.models.watch(on_pass)

    @torch.no_grad()
    def step(self) -> None:
        """Run one step of Algorithm 1."""
        settings = self._settings
        pixels = self._image.flip(-1) if random.random() < 0.5 else self._image
        prompt = random.choice(TEMPLATES).format(SUBJECT.token)
        ids = self.models.token_ids_of(prompt)
        latents = self.models.encode_image(pixels)
        sample = (*self.models.noisy(latents, settings.t_low, settings.t_high), ids)
        estimate = self._estimate(sample)
        free = len(self._theta) - len(self._subspace.removed)
        estimate /= dimension_divisor(settings.n, free)
        self._theta.grad = self._subspace.project(estimate.cpu()).to(self._theta)
        self._adam.step()
        self._write(self._theta)
        self._record()

    def _estimate(self, sample: tuple[Tensor, Tensor, Tensor, list[Tensor]]) -> Tensor:
        """Return the sum of the directional differences, one forward pass after another."""
        mu = self._settings.mu
        start = float(self.models.loss(*sample))
        estimate = torch.zeros_like(self._theta)
        for _ in range(self._settings.n):
            direction = torch.randn_like(self._theta)
            self._perturb(mu * direction)
            difference = (float(self.models.loss(*sample)) - start) / mu
            self._perturb(-mu * direction)
            estimate += difference * direction
        return estimate

    def _perturb(self, change: Tensor) -> None:
        for row, part in zip(self._rows, torch.split(change, [len(row) for row in self._rows]), strict=True):
            row.add_(part)

    def _write(self, theta: Tensor) -> None:
        for row, part in zip(self._rows, torch.split(theta, [len(row) for row in self._rows]), strict=True):
            row.copy_(part)

    def _record(self) -> None:
        """Store the token in the history; update the subspace when the history is full."""
        self._subspace.record(self._step % self._settings.tau, self._theta.cpu())
        self._step += 1
        if self._step % self._settings.tau == 0:
            self._subspace.update()
