"""Prompt and concepts → images: the same prompt code as in learning, so a token means the same in both."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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


@torch.no_grad()
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
    side = (settings.height or bundle.side_px, settings.width or bundle.side_px)
    _check_size(bundle, side)
    scheduler = make_scheduler(bundle.folder / "scheduler", settings.scheduler)
    scheduler.set_timesteps(settings.steps, device=bundle.device)
    seeds = [settings.seed + k for k in range(settings.n)]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    latents = _start(bundle, side, generators) * scheduler.init_noise_sigma
    guided = settings.guidance_scale > 1
    conditions = _conditions(bundle, settings, concepts or {}, guided=guided, side=side)
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    extra: dict[str, Any] = {"generator": generators} if takes_generator else {}
    for t in scheduler.timesteps:
        before_step()
        noisy = scheduler.scale_model_input(latents, t)
        output = _guide(bundle, noisy, t, conditions, settings.guidance_scale)
        latents = scheduler.step(output, t, latents, **extra, return_dict=False)[0]
    images = decode_latents(bundle.vae, latents)
    return [Drawn(image, seed) for image, seed in zip(images, seeds, strict=True)]


@dataclass(frozen=True)
class _Condition:
    """What one branch of the guidance is conditioned on (one row)."""

    states: PromptStates
    time_ids: Float[Tensor, "1 6"] | None


def _conditions(
    bundle: Bundle,
    settings: GenerationSettings,
    concepts: ConceptVectors,
    *,
    guided: bool,
    side: tuple[int, int],
) -> list[_Condition]:
    """[negative, positive] with guidance, else [positive]."""
    time_ids = bundle.time_ids(side)
    positive = _Condition(_encode(bundle, settings.prompt, concepts), time_ids)
    if not guided:
        return [positive]
    negative = _encode(bundle, settings.negative_prompt, concepts)
    if bundle.zero_empty_prompt and not settings.negative_prompt:
        pooled = None if negative.pooled is None else torch.zeros_like(negative.pooled)
        negative = PromptStates(torch.zeros_like(negative.states), pooled)
    return [_Condition(negative, time_ids), positive]


def _encode(bundle: Bundle, text: str, concepts: ConceptVectors) -> PromptStates:
    prompt = bundle.prompts.tokenize(text, _counts(concepts))
    embedded = bundle.prompts.embed(prompt, concepts)
    return bundle.prompts.encode([row[None] for row in embedded], [prompt])


def _counts(concepts: ConceptVectors) -> Mapping[str, int]:
    return {token: len(parts[0]) for token, parts in concepts.items()}


def _guide(
    bundle: Bundle,
    noisy: Float[Tensor, "images c h w"],
    t: Tensor,
    conditions: Sequence[_Condition],
    guidance_scale: float,
) -> Float[Tensor, "images c h w"]:
    """The model's output, moved away from the negative prompt (classifier-free guidance)."""
    rows = Rows.cat([_rows(noisy, t, condition) for condition in conditions])
    output = bundle.denoiser.predict(rows)
    if len(conditions) == 1:
        return output
    negative, positive = output.chunk(2)
    return negative + guidance_scale * (positive - negative)


def _rows(noisy: Float[Tensor, "images c h w"], t: Tensor, condition: _Condition) -> Rows:
    count = len(noisy)
    states = condition.states
    return Rows(
        noisy,
        t.expand(count),
        states.states.expand(count, -1, -1),
        None if states.pooled is None else states.pooled.expand(count, -1),
        None if condition.time_ids is None else condition.time_ids.expand(count, -1),
    )


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
