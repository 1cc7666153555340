"""Prompt and concepts → images: the same prompt code as in learning, so a token means the same in both."""

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
class Drawn:
    """One generated image and the seed that draws it again."""

    image: Image.Image
    seed: int


def generate(
    bundle: Bundle,
    settings: GenerationSettings,
    concepts: ConceptVectors | None = None,
    *,
    before_step: Callable[[], None] = lambda: None,
) -> list[Drawn]:
    """Images of a prompt; image k is drawn from `seed + k` alone, so it does not depend on `n`.

    Args:
        bundle: the base model.
        settings: prompt, number, size, steps, guidance, seed and scheduler.
        concepts: vectors of each learned token that the prompt may hold.
        before_step: called before each step of the denoising; what it raises ends the drawing.

    Raises:
        UnknownTokenError: the prompt holds a token that is not in `concepts`.
        UnknownSchedulerError: no scheduler of that name.
        OutOfMemoryError: not even one row fits.
        ImageNotFiniteError: the model's values overflow.
    """
    (drawn,) = generate_together(bundle, [settings], concepts, before_step=before_step)
    return drawn


@torch.no_grad()
def generate_together(
    bundle: Bundle,
    asked: Sequence[GenerationSettings],
    concepts: ConceptVectors | None = None,
    *,
    before_step: Callable[[], None] = lambda: None,
) -> list[list[Drawn]]:
    """Images of several prompts, denoised in one batch: of each what `generate` draws, up to rounding.

    Args:
        bundle: the base model.
        asked: settings that differ in prompt, number and seed alone; at least one.
        concepts: as in `generate`.
        before_step: as in `generate`.

    Raises:
        InvalidSettingsError: two settings differ in something else.
        ZoodipError: as in `generate`.
    """
    shared = _shared(asked)
    side = (shared.height or bundle.side_px, shared.width or bundle.side_px)
    _check_size(bundle, side)
    scheduler = make_scheduler(bundle.folder / "scheduler", shared.scheduler)
    scheduler.set_timesteps(shared.steps, device=bundle.device)
    seeds = [settings.seed + k for settings in asked for k in range(settings.n)]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    latents = _start(bundle, side, generators) * scheduler.init_noise_sigma
    branches = _branches(bundle, asked, concepts or {})
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
    drawn = iter(Drawn(image, seed) for image, seed in zip(images, seeds, strict=True))
    return [list(islice(drawn, settings.n)) for settings in asked]


def _shared(asked: Sequence[GenerationSettings]) -> GenerationSettings:
    """The first of the settings; the others are alike but for what an image has of its own."""
    common = [name for name in GenerationSettings.model_fields if name not in ("prompt", "n", "seed")]
    for settings in asked:
        for name in common:
            first, other = getattr(asked[0], name), getattr(settings, name)
            if other != first:
                raise InvalidSettingsError(
                    f"{name}: {other!r} beside {first!r}; prompts drawn together share it", field=name
                )
    return asked[0]


def _branches(
    bundle: Bundle, asked: Sequence[GenerationSettings], concepts: ConceptVectors
) -> list[PromptStates]:
    """What the images are conditioned on, a row each: [negative, positive] with guidance, else [positive]."""
    encoded = [_repeated(_encode(bundle, one.prompt, concepts), one.n) for one in asked]
    pooled = [states.pooled for states in encoded if states.pooled is not None]
    rows = PromptStates(
        torch.cat([states.states for states in encoded]), torch.cat(pooled) if pooled else None
    )
    if asked[0].guidance_scale <= 1:
        return [rows]
    negative = _encode(bundle, asked[0].negative_prompt, concepts)
    if bundle.zero_empty_prompt and not asked[0].negative_prompt:
        nothing = None if negative.pooled is None else torch.zeros_like(negative.pooled)
        negative = PromptStates(torch.zeros_like(negative.states), nothing)
    return [_repeated(negative, len(rows.states)), rows]


def _repeated(states: PromptStates, count: int) -> PromptStates:
    """One row as `count` rows, without a copy."""
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
    """The model's output, moved away from the negative prompt where there is one (classifier-free guidance)."""
    if branches == 1:
        return output
    negative, positive = output.chunk(2)
    return negative + guidance_scale * (positive - negative)


def _rows(
    noisy: Float[Tensor, "images c h w"], t: Tensor, states: PromptStates, time_ids: Tensor | None
) -> Rows:
    count = len(noisy)
    shape = None if time_ids is None else time_ids.expand(count, -1)
    return Rows(noisy, t.expand(count), states.states, states.pooled, shape)


def _start(
    bundle: Bundle, side: tuple[int, int], generators: Sequence[torch.Generator]
) -> Float[Tensor, "images c h w"]:
    shape = (bundle.latent_channels, side[0] // bundle.scale_factor, side[1] // bundle.scale_factor)
    noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    return noise.to(bundle.device)


def _check_size(bundle: Bundle, side: tuple[int, int]) -> None:
    for name, pixels in zip(("height", "width"), side, strict=True):
        if pixels % bundle.scale_factor:
            raise InvalidSettingsError(
                f"{name}: {pixels} is not a multiple of {bundle.scale_factor}", field=name
            )
