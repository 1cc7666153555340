"""Image generation from prompts and concepts, with the same prompt encoding as personalization."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from zoodip_core.config import GenerationSettings
from zoodip_core.diffusion.denoising import Rows
from zoodip_core.diffusion.latents import decode_latents
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.diffusion.prompts import ConceptVectors, PromptStates
from zoodip_core.diffusion.schedulers import make_scheduler
from zoodip_core.errors import InvalidSettingsError


@dataclass(frozen=True)
class GeneratedImage:
    """A generated image and the seed that reproduces it."""

    image: Image.Image
    seed: int


def generate(
    bundle: Bundle,
    settings: GenerationSettings,
    concepts: ConceptVectors | None = None,
    *,
    before_step: Callable[[], None] = lambda: None,
) -> list[GeneratedImage]:
    """Generate the images of a prompt. Image k uses the seed `seed + k`, so it does not depend on `n`.

    Args:
        bundle: the base model.
        settings: prompt, number of images, size, steps, guidance scale, seed and scheduler.
        concepts: vectors of each learned token that the prompt can use.
        before_step: called before each denoising step; an exception that it raises ends the generation.

    Returns:
        `settings.n` images, in the order of their seeds.

    Raises:
        InvalidSettingsError: the height or width is not a multiple of the size of a latent cell.
        UnknownTokenError: the prompt contains a token that is not in `concepts`.
        UnknownSchedulerError: no scheduler has that name.
        OutOfMemoryError: not even one row fits into memory.
        ImageNotFiniteError: a pixel is NaN or infinite.
    """
    (drawn,) = generate_together(bundle, [settings], concepts, before_step=before_step)
    return drawn


@torch.no_grad()
def generate_together(
    bundle: Bundle,
    requests: Sequence[GenerationSettings],
    concepts: ConceptVectors | None = None,
    *,
    before_step: Callable[[], None] = lambda: None,
) -> list[list[GeneratedImage]]:
    """Generate the images of several prompts in one batch.

    Up to rounding, the images equal those that `generate` draws for each prompt.

    Args:
        bundle: the base model.
        requests: one or more settings that differ only in prompt, number of images and seed.
        concepts: as in `generate`.
        before_step: as in `generate`.

    Returns:
        For each request, its images.

    Raises:
        InvalidSettingsError: two requests differ in another setting.
        ZoodipError: as in `generate`.
    """
    shared = _shared_settings(requests)
    side = (shared.height or bundle.side_px, shared.width or bundle.side_px)
    _check_size(bundle, side)
    scheduler = make_scheduler(bundle.folder / "scheduler", shared.scheduler)
    scheduler.set_timesteps(shared.steps, device=bundle.device)
    seeds = [settings.seed + k for settings in requests for k in range(settings.n)]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    latents = _initial_noise(bundle, side, generators) * scheduler.init_noise_sigma
    branches = _conditioning(bundle, requests, concepts or {})
    time_ids = bundle.time_ids(side)
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    extra: dict[str, Any] = {"generator": generators} if takes_generator else {}
    for t in scheduler.timesteps:
        before_step()
        noisy = scheduler.scale_model_input(latents, t)
        rows = Rows.cat([_rows(noisy, t, states, time_ids) for states in branches])
        output = _guided(bundle.denoiser.predict(rows), shared.guidance_scale, len(branches))
        latents = scheduler.step(output, t, latents, **extra, return_dict=False)[0]
    images = decode_latents(bundle.vae, latents)
    drawn = iter(GeneratedImage(image, seed) for image, seed in zip(images, seeds, strict=True))
    return [list(islice(drawn, settings.n)) for settings in requests]


def _shared_settings(requests: Sequence[GenerationSettings]) -> GenerationSettings:
    """Return the first request, after checking that all share the settings of the batch."""
    common = [name for name in GenerationSettings.model_fields if name not in ("prompt", "n", "seed")]
    for settings in requests:
        for name in common:
            first, other = getattr(requests[0], name), getattr(settings, name)
            if other != first:
                raise InvalidSettingsError.mismatch(
                    name, got=repr(other), expected=f"{first!r}, as in the first prompt of the batch"
                )
    return requests[0]


def _conditioning(
    bundle: Bundle, requests: Sequence[GenerationSettings], concepts: ConceptVectors
) -> list[PromptStates]:
    """Return the conditioning, one row for each image: [negative, positive] with guidance, else [positive]."""
    encoded = [_repeated(_encode(bundle, one.prompt, concepts), one.n) for one in requests]
    pooled = [states.pooled for states in encoded if states.pooled is not None]
    rows = PromptStates(
        torch.cat([states.states for states in encoded]), torch.cat(pooled) if pooled else None
    )
    if requests[0].guidance_scale <= 1:
        return [rows]
    negative = _encode(bundle, requests[0].negative_prompt, concepts)
    if bundle.zero_empty_prompt and not requests[0].negative_prompt:
        pooled_zeros = None if negative.pooled is None else torch.zeros_like(negative.pooled)
        negative = PromptStates(torch.zeros_like(negative.states), pooled_zeros)
    return [_repeated(negative, len(rows.states)), rows]


def _repeated(states: PromptStates, count: int) -> PromptStates:
    """Repeat one row `count` times, without a copy."""
    pooled = None if states.pooled is None else states.pooled.expand(count, -1)
    return PromptStates(states.states.expand(count, -1, -1), pooled)


def _encode(bundle: Bundle, text: str, concepts: ConceptVectors) -> PromptStates:
    prompt = bundle.prompts.tokenize(text, _counts(concepts))
    embedded = bundle.prompts.embed(prompt, concepts)
    return bundle.prompts.encode([row[None] for row in embedded], [prompt])


def _counts(concepts: ConceptVectors) -> Mapping[str, int]:
    return {token: len(parts[0]) for token, parts in concepts.items()}


def _guided(
    output: Float[Tensor, "rows c h w"], guidance_scale: float, branches: int
) -> Float[Tensor, "images c h w"]:
    """Apply classifier-free guidance if there is a negative branch."""
    if branches == 1:
        return output
    negative, positive = output.chunk(2)
    return negative + guidance_scale * (positive - negative)


def _rows(
    noisy: Float[Tensor, "images c h w"], t: Tensor, states: PromptStates, time_ids: Tensor | None
) -> Rows:
    count = len(noisy)
    repeated_ids = None if time_ids is None else time_ids.expand(count, -1)
    return Rows(noisy, t.expand(count), states.states, states.pooled, repeated_ids)


def _initial_noise(
    bundle: Bundle, side: tuple[int, int], generators: Sequence[torch.Generator]
) -> Float[Tensor, "images c h w"]:
    shape = (bundle.latent_channels, side[0] // bundle.scale_factor, side[1] // bundle.scale_factor)
    noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    return noise.to(bundle.device)


def _check_size(bundle: Bundle, side: tuple[int, int]) -> None:
    for name, pixels in zip(("height", "width"), side, strict=True):
        if pixels % bundle.scale_factor:
            raise InvalidSettingsError.mismatch(
                name, got=pixels, expected=f"a multiple of {bundle.scale_factor}"
            )
