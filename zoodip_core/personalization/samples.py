"""What a search looks at: reference images as cached latents, their captions, and the fixed set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.diffusion.denoising import NoiseSchedule
from zoodip_core.diffusion.latents import Posteriors
from zoodip_core.diffusion.prompts import Prompt, PromptEncoder, unflatten
from zoodip_core.engine import Request

VALIDATION_SET_SEED = 0
VALIDATION_SET_RANGE = (0.2, 0.95)
"""Share of the timesteps that the fixed set spans: the ends say little about a token."""


@dataclass(frozen=True)
class Sample:
    """One noisy image: what the U-Net sees, what it should predict, and the caption."""

    noisy: Float[Tensor, "c h w"]
    target: Float[Tensor, "c h w"]
    timestep: int
    prompt: Prompt


@dataclass(frozen=True)
class References:
    """The reference images of one personalization."""

    posteriors: Posteriors
    captions: Sequence[Sequence[Prompt]]  # those that each image may get
    schedule: NoiseSchedule

    def draw(self, image: int, *, flipped: bool, timestep: int, seed: int) -> Sample:
        """A noisy image with a caption; everything random in it comes from `seed`."""
        generator = torch.Generator().manual_seed(seed)
        choices = self.captions[image]
        prompt = choices[int(torch.randint(len(choices), (), generator=generator))]
        latent = self.posteriors.sample(image, flipped, generator)
        noise = torch.randn(latent.shape, generator=generator)
        return Sample(
            self.schedule.noisy(latent, noise, timestep),
            self.schedule.target(latent, noise, timestep),
            timestep,
            prompt,
        )

    def validation_set(self, rows: int) -> list[Sample]:
        """The same samples for every search on these images, with timesteps spread evenly.

        At one row a step the loss of the search itself says nothing; this set shows progress.
        """
        low, high = (round(share * len(self.schedule)) for share in VALIDATION_SET_RANGE)
        steps = torch.linspace(low, high - 1, rows).round().long().tolist()
        images = len(self.posteriors)
        return [
            self.draw(k % images, flipped=False, timestep=t, seed=VALIDATION_SET_SEED + k)
            for k, t in enumerate(steps)
        ]


def candidates_request(
    encoder: PromptEncoder, sample: Sample, token: str, candidates: Float[Tensor, "rows flat"], vectors: int
) -> Request:
    """One sample under many values of the token: they share image, noise, timestep and caption."""
    count = len(candidates)
    return Request(
        sample.noisy.expand(count, -1, -1, -1),
        torch.full((count,), sample.timestep),
        [sample.prompt] * count,
        encoder.embed_candidates(sample.prompt, token, candidates, vectors),
    )


def samples_request(
    encoder: PromptEncoder,
    samples: Sequence[Sample],
    token: str,
    theta: Float[Tensor, " flat"],
    vectors: int,
) -> Request:
    """Many samples under one value of the token."""
    parts = [part[0] for part in unflatten(theta[None], vectors, encoder.widths)]
    embedded = [encoder.embed(sample.prompt, {token: parts}) for sample in samples]
    return Request(
        torch.stack([sample.noisy for sample in samples]),
        torch.tensor([sample.timestep for sample in samples]),
        [sample.prompt for sample in samples],
        [torch.stack(column) for column in zip(*embedded, strict=True)],
    )
