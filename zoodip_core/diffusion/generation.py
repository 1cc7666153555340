"""Image generation from prompts and concepts, with the same prompt encoding as personalization."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from zoodip_core.base_models.image_size import check_sides
from zoodip_core.config import GenerationSettings
from zoodip_core.diffusion.conditioning import conditioning
from zoodip_core.diffusion.denoising import Rows
from zoodip_core.diffusion.device import to_device
from zoodip_core.diffusion.guidance import Guidance
from zoodip_core.diffusion.latents import decode_latent
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.diffusion.prompts import ConceptVectors
from zoodip_core.diffusion.sampling import Sampler
from zoodip_core.diffusion.schedulers import make_scheduler, set_timesteps
from zoodip_core.errors import ContentFilteredError, InvalidSettingsError
from zoodip_core.fair_shares import DECODE_ROWS, MAX_CELLS


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

    Each unit needs a bounded amount of memory: a forward pass, or the decoding of one image. The engine batches the
    rows of a forward pass with those of other jobs (`zoodip_core.engine.DecodingJob`). `advance` runs a unit alone.

    Args:
        bundle: the base model.
        requests: one or more settings that differ only in prompt, number of images and seed.
        concepts: vectors of each learned token that the prompts can use.

    Attributes:
        drawn: decoded images, request by request; all of them once `done` is true. An image that the safety checker
            of the base model flagged is None.
        most_rows: most rows of the next request.

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
        side = (shared.height or bundle.side_px, shared.width or bundle.side_px)
        check_sides(*side, bundle.scale_factor)
        self._steps = shared.steps
        self._seeds = [settings.seed + k for settings in requests for k in range(settings.n)]
        generators = [torch.Generator().manual_seed(seed) for seed in self._seeds]
        scheduler = make_scheduler(bundle.folder / "scheduler", shared.scheduler)
        set_timesteps(scheduler, shared.steps)
        self._sampler = Sampler(
            scheduler,
            _initial_noise(bundle, side, generators),
            conditioning(bundle, requests, concepts or {}),
            Guidance(float(shared.guidance_scale), float(shared.guidance_rescale)),
            generators,
            bundle.time_ids(side),
        )
        self.drawn: list[GeneratedImage | None] = []
        self.most_rows = max(1, MAX_CELLS // self.unit_cells)

    @property
    def step(self) -> int:
        """Number of completed denoising steps, of those that the requests ask for."""
        completed, total = self._sampler.progress
        return self._steps * completed // total

    @property
    def count(self) -> int:
        """Number of images of all requests."""
        return len(self._seeds)

    @property
    def done(self) -> bool:
        """Whether all images are drawn."""
        return len(self.drawn) == self.count

    @property
    def images(self) -> list[GeneratedImage]:
        """The images so far that the safety checker did not withhold."""
        return _kept(self.drawn)

    @property
    def withheld(self) -> list[int]:
        """Seeds of the images so far that the safety checker withheld."""
        return [seed for seed, image in zip(self._seeds, self.drawn, strict=False) if image is None]

    @property
    def decodes_next(self) -> bool:
        """Whether all steps are complete, so that the next unit of work decodes an image."""
        return self._sampler.done

    @property
    def units(self) -> int:
        """Rows of the current step without a prediction, or 1 if the next unit of work decodes an image."""
        return 1 if self.decodes_next else self._sampler.remaining_rows

    @property
    def unit_cells(self) -> int:
        """Latent cells of a row. The decoding of an image takes as long as several rows."""
        height, width = self._sampler.latents.shape[-2:]
        return int(height * width) * (DECODE_ROWS if self.decodes_next else 1)

    @property
    def parameters(self) -> int:
        """Parameters of the U-Net."""
        return self._bundle.denoiser.parameters

    def advance(self) -> None:
        """Run one unit of work.

        Raises:
            OutOfMemoryError: not even one row fits into memory.
            ImageNotFiniteError: a pixel is NaN or infinite.
            ContentFilteredError: the safety checker withheld all images.
        """
        if self.decodes_next:
            self.decode()
        else:
            self.apply_predictions(self._bundle.denoiser.predict(self.build_request()))

    def build_request(self) -> Rows:
        """Return the next rows of the current step, at most `most_rows`."""
        return self._sampler.build_request(self.most_rows)

    def apply_predictions(self, prediction: Float[Tensor, "rows c h w"]) -> None:
        """Complete a step, or a part of it, with the predictions for the requested rows."""
        self._sampler.apply_predictions(prediction)

    def recover(self) -> bool:
        """Return false: a generation has no loss."""
        return False

    @torch.no_grad()
    def decode(self) -> None:
        """Decode the next image.

        Raises:
            OutOfMemoryError: one image does not fit into memory.
            ImageNotFiniteError: a pixel is NaN or infinite.
            ContentFilteredError: the safety checker withheld all images.
        """
        index = len(self.drawn)
        self.drawn.append(self._decode(self._sampler.latents[index], self._seeds[index]))
        if self.done and not self.images:
            raise ContentFilteredError

    @torch.no_grad()
    def partial_image(self) -> Image.Image | None:
        """Decode the estimate of the first image after the last denoising step. At least one must be complete.

        Some schedulers estimate no clean image. Then it is the image with its remaining noise.
        Return None if the safety checker flags it.

        Raises:
            OutOfMemoryError: one image does not fit into memory.
            ImageNotFiniteError: a pixel is NaN or infinite.
        """
        estimates = self._sampler.estimates
        assert estimates is not None
        partial = self._decode(estimates[0], self._seeds[0])
        return None if partial is None else partial.image

    def _decode(self, latent: Float[Tensor, "c h w"], seed: int) -> GeneratedImage | None:
        """Decode one image. Return None if the safety checker flags it."""
        with self._bundle.denoiser.threads(DECODE_ROWS * latent[0].numel()):
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


def _initial_noise(
    bundle: Bundle, side: tuple[int, int], generators: Sequence[torch.Generator]
) -> Float[Tensor, "images c h w"]:
    shape = (bundle.latent_channels, side[0] // bundle.scale_factor, side[1] // bundle.scale_factor)
    noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    return to_device(noise, bundle.device)
