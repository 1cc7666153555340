"""Training samples of a search: cached latents with noise and captions, and the validation set."""

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
"""Range of timesteps in the validation set, as a share of all: the ends say little about a token."""


@dataclass(frozen=True)
class Sample:
    """One noisy latent with the target of the prediction, its timestep and its caption."""

    noisy: Float[Tensor, "c h w"]
    target: Float[Tensor, "c h w"]
    timestep: int
    prompt: Prompt
    weight: Float[Tensor, "1 h w"] | None = None  # of the latent's cells in the loss; None weights all alike


@dataclass(frozen=True)
class References:
    """The reference images of one personalization, as cached latent distributions."""

    posteriors: Posteriors
    captions: Sequence[Sequence[Prompt]]  # for each image, the captions that it can get
    schedule: NoiseSchedule
    weights: Float[Tensor, "images 1 h w"] | None = None  # of the latents' cells in the loss

    def draw(self, image: int, *, flipped: bool, timestep: int, seed: int) -> Sample:
        """Return a noisy latent with a caption. All randomness comes from `seed`.

        Args:
            image: index of the reference image.
            flipped: whether to use the mirrored image.
            timestep: timestep of the noise.
            seed: seed of caption, latent sample and noise.
        """
        generator = torch.Generator().manual_seed(seed)
        choices = self.captions[image]
        prompt = choices[int(torch.randint(len(choices), (), generator=generator))]
        latent = self.posteriors.sample(image, flipped, generator)
        noise = torch.randn(latent.shape, generator=generator)
        weight = None if self.weights is None else self.weights[image]
        return Sample(
            self.schedule.noisy(latent, noise, timestep),
            self.schedule.target(latent, noise, timestep),
            timestep,
            prompt,
            weight.flip(-1) if weight is not None and flipped else weight,
        )

    def validation_set(self, rows: int) -> list[Sample]:
        """Return the validation set: the same samples for every search on these images, timesteps evenly spaced.

        The loss of a step comes from a single sample and is too noisy to show progress.
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
    """Return the rows of one sample under many candidate embeddings."""
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
    """Return the rows of many samples under one embedding of the token."""
    parts = [part[0] for part in unflatten(theta[None], vectors, encoder.widths)]
    embedded = [encoder.embed(sample.prompt, {token: parts}) for sample in samples]
    return Request(
        torch.stack([sample.noisy for sample in samples]),
        torch.tensor([sample.timestep for sample in samples]),
        [sample.prompt for sample in samples],
        [torch.stack(column) for column in zip(*embedded, strict=True)],
    )
