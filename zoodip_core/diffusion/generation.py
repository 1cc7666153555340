"""Image generation from prompts and concepts, with the same prompt encoding as personalization."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from zoodip_core.base_models.image_size import check_sides
from zoodip_core.config import GenerationSettings
from zoodip_core.diffusion.conditioning import conditioning
from zoodip_core.diffusion.denoising import Rows
from zoodip_core.diffusion.latents import decode_latent
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.diffusion.prompts import ConceptVectors, PromptStates
from zoodip_core.diffusion.schedulers import make_scheduler
from zoodip_core.errors import ContentFilteredError, InvalidSettingsError

MAX_CELLS = 65_536
"""Latent cells of one forward pass of a generation: 16 rows of 512 x 512 px with 8 px a cell."""


@dataclass(frozen=True)
class GeneratedImage:
    """A generated image and the seed that reproduces it."""

    image: Image.Image
    seed: int


def generate(
    bundle: Bundle, settings: GenerationSettings, concepts: ConceptVectors | None = None
) -> list[GeneratedImage]:
    """Generate the images of a prompt. Image k uses the seed `seed + k`, so it does not depend on `n`.

    Args:
        bundle: the base model.
        settings: prompt, number of images, size, steps, guidance scale, seed and scheduler.
        concepts: vectors of each learned token that the prompt can use.

    Returns:
        `settings.n` images, in the order of their seeds, without those that the safety checker of `bundle` withheld.

    Raises:
        InvalidSettingsError: the height or width is not a multiple of the size of a latent cell.
        UnknownTokenError: the prompt contains a token that is not in `concepts`.
        UnknownSchedulerError: no scheduler has that name.
        OutOfMemoryError: not even one row fits into memory.
        ImageNotFiniteError: a pixel is NaN or infinite.
        ContentFilteredError: the safety checker withheld all images.
    """
    (drawn,) = generate_together(bundle, [settings], concepts)
    return drawn


def generate_together(
    bundle: Bundle, requests: Sequence[GenerationSettings], concepts: ConceptVectors | None = None
) -> list[list[GeneratedImage]]:
    """Generate the images of several prompts in one batch.

    Up to rounding, the images equal those that `generate` draws for each prompt.

    Args:
        bundle: the base model.
        requests: one or more settings that differ only in prompt, number of images and seed.
        concepts: as in `generate`.

    Returns:
        For each request, its images without those that the safety checker of `bundle` withheld.

    Raises:
        InvalidSettingsError: two requests differ in another setting.
        ZoodipError: as in `generate`.
    """
    batch = ImageBatch(bundle, requests, concepts)
    while not batch.done:
        batch.advance()
    drawn = iter(batch.drawn)
    return [_kept(islice(drawn, settings.n)) for settings in requests]


class ImageBatch:
    """Images that are drawn together, in small units of work, so that the caller can stop or do other work between.

    Each unit needs a bounded amount of memory: a forward pass of at most `MAX_CELLS`, or the decoding of one image.

    Args:
        bundle: the base model.
        requests: one or more settings that differ only in prompt, number of images and seed.
        concepts: vectors of each learned token that the prompts can use.

    Attributes:
        step: number of completed denoising steps, of those that the requests ask for.
        drawn: decoded images, request by request; all of them once `done` is true. An image that the safety checker
            of the base model flagged is None.

    Raises:
        ZoodipError: a setting is not allowed, as in `generate_together`.
    """

    def __init__(
        self,
        bundle: Bundle,
        requests: Sequence[GenerationSettings],
        concepts: ConceptVectors | None = None,
    ) -> None:
        shared = _shared_settings(requests)
        self._bundle = bundle
        self._side = (shared.height or bundle.side_px, shared.width or bundle.side_px)
        check_sides(*self._side, bundle.scale_factor)
        self._steps = shared.steps
        self._guidance_scale, self._guidance_rescale = shared.guidance_scale, shared.guidance_rescale
        self._scheduler = make_scheduler(bundle.folder / "scheduler", shared.scheduler)
        self._scheduler.set_timesteps(shared.steps, device=bundle.device)
        self._seeds = [settings.seed + k for settings in requests for k in range(settings.n)]
        with torch.no_grad():
            self._branches = conditioning(bundle, requests, concepts or {})
        self.step = 0
        self.drawn: list[GeneratedImage | None] = []
        self._estimates: Tensor | None = None
        self._work = self._draw()

    @property
    def done(self) -> bool:
        """Whether all images are drawn."""
        return len(self.drawn) == len(self._seeds)

    @property
    def images(self) -> list[GeneratedImage]:
        """The images so far that the safety checker did not withhold."""
        return _kept(self.drawn)

    @property
    def withheld(self) -> list[int]:
        """Seeds of the images so far that the safety checker withheld."""
        return [seed for seed, image in zip(self._seeds, self.drawn, strict=False) if image is None]

    def advance(self) -> None:
        """Run one unit of work.

        Raises:
            OutOfMemoryError: not even one row fits into memory.
            ImageNotFiniteError: a pixel is NaN or infinite.
            ContentFilteredError: the safety checker withheld all images.
        """
        with torch.no_grad():
            next(self._work)

    def partial_image(self) -> Image.Image | None:
        """Decode the estimate of the first image after the last denoising step. At least one must be complete.

        Some schedulers estimate no clean image. Then it is the image with its remaining noise.
        Return None if the safety checker flags it.

        Raises:
            OutOfMemoryError: one image does not fit into memory.
            ImageNotFiniteError: a pixel is NaN or infinite.
        """
        assert self._estimates is not None
        with torch.no_grad():
            partial = self._decode(self._estimates[0], self._seeds[0])
        return None if partial is None else partial.image

    def _draw(self) -> Iterator[None]:
        """Denoise and decode; yield after each unit of work."""
        scheduler = self._scheduler
        generators = [torch.Generator().manual_seed(seed) for seed in self._seeds]
        latents = _initial_noise(self._bundle, self._side, generators) * scheduler.init_noise_sigma
        time_ids = self._bundle.time_ids(self._side)
        takes_generator = "generator" in inspect.signature(scheduler.step).parameters
        extra: dict[str, Any] = {"generator": generators} if takes_generator else {}
        for count, t in enumerate(scheduler.timesteps, start=1):
            noisy = scheduler.scale_model_input(latents, t)
            predicted: list[Tensor] = []
            for rows in _chunks(Rows.cat([_rows(noisy, t, states, time_ids) for states in self._branches])):
                if predicted:
                    yield
                predicted.append(self._bundle.denoiser.predict(rows))
            output = self._guided(torch.cat(predicted))
            stepped = scheduler.step(output, t, latents, **extra)
            latents = stepped.prev_sample
            clean = getattr(stepped, "pred_original_sample", None)
            self._estimates = latents if clean is None else clean
            self.step = self._steps * count // len(scheduler.timesteps)  # some schedulers take more timesteps
            yield
        for latent, seed in zip(latents, self._seeds, strict=True):
            self.drawn.append(self._decode(latent, seed))
            if self.done and not self.images:
                raise ContentFilteredError
            yield

    def _guided(self, output: Float[Tensor, "rows c h w"]) -> Float[Tensor, "images c h w"]:
        """Apply classifier-free guidance and its rescaling if there is a negative branch."""
        if len(self._branches) == 1:
            return output
        negative, positive = output.chunk(2)
        guided = negative + self._guidance_scale * (positive - negative)
        return _rescaled(guided, positive, self._guidance_rescale) if self._guidance_rescale else guided

    def _decode(self, latent: Float[Tensor, "c h w"], seed: int) -> GeneratedImage | None:
        """Decode one image. Return None if the safety checker flags it."""
        image = decode_latent(self._bundle.vae, latent)
        checker = self._bundle.safety_checker
        return None if checker is not None and checker.flags(image) else GeneratedImage(image, seed)


def _kept(drawn: Iterable[GeneratedImage | None]) -> list[GeneratedImage]:
    return [image for image in drawn if image is not None]


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


def _rescaled(
    guided: Float[Tensor, "images c h w"], positive: Float[Tensor, "images c h w"], share: float
) -> Float[Tensor, "images c h w"]:
    """Move the standard deviation of each guided prediction toward that of the positive branch.

    Source: arXiv:2305.08891, Eqs. (15) and (16)
    """
    dims = (1, 2, 3)
    corrected = guided * (positive.std(dims, keepdim=True) / guided.std(dims, keepdim=True))
    return share * corrected + (1 - share) * guided


def _rows(
    noisy: Float[Tensor, "images c h w"], t: Tensor, states: PromptStates, time_ids: Tensor | None
) -> Rows:
    count = len(noisy)
    repeated_ids = None if time_ids is None else time_ids.expand(count, -1)
    return Rows(noisy, t.expand(count), states.states, states.pooled, repeated_ids)


def _chunks(rows: Rows) -> Iterator[Rows]:
    """Split rows into parts of at most `MAX_CELLS`, or of one row."""
    height, width = rows.noisy.shape[-2:]
    limit = max(1, MAX_CELLS // (height * width))
    return (rows[first : first + limit] for first in range(0, len(rows), limit))


def _initial_noise(
    bundle: Bundle, side: tuple[int, int], generators: Sequence[torch.Generator]
) -> Float[Tensor, "images c h w"]:
    shape = (bundle.latent_channels, side[0] // bundle.scale_factor, side[1] // bundle.scale_factor)
    noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    return noise.to(bundle.device)
