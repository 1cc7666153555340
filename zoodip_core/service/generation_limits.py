"""Limits of one generation that the operator sets, so that no request occupies a worker for hours."""

from __future__ import annotations

from zoodip_core.config import GenerationSettings
from zoodip_core.errors import InvalidSettingsError
from zoodip_core.service.settings import ServiceSettings


def check_generation_limits(
    generation: GenerationSettings, native_side_px: int | None, limits: ServiceSettings, *, prompts: int = 1
) -> None:
    """Validate the number of images and steps, the area of an image, and their product.

    Args:
        generation: settings of the generation; an unset side is the native one.
        native_side_px: side in pixels of the base model's square training images. None if it is unknown: then only
            the numbers of images and steps are checked.
        limits: settings of the service.
        prompts: number of prompts, each with the same number of images.

    Raises:
        InvalidSettingsError: names the field (`n`, `steps` or `size`) and the value of the limit.
    """
    images = generation.n * prompts
    for field, value, limit in (
        ("n", images, limits.max_generation_images),
        ("steps", generation.steps, limits.max_generation_steps),
    ):
        if value > limit:
            of_set = f" images of {prompts} prompts" if field == "n" and prompts > 1 else ""
            raise InvalidSettingsError.mismatch(field, got=f"{value}{of_set}", expected=f"at most {limit}")
    if native_side_px is None:
        return
    width, height = generation.width or native_side_px, generation.height or native_side_px
    area = width * height / native_side_px**2
    if area > limits.max_generation_area:
        most_px = int(limits.max_generation_area * native_side_px**2)
        raise InvalidSettingsError.mismatch(
            "size",
            got=f"{width}x{height}",
            expected=f"at most {most_px} pixels, {limits.max_generation_area:g} times those of "
            f"{native_side_px}x{native_side_px}",
        )
    cost = images * generation.steps * area
    if cost > limits.max_generation_cost:
        raise InvalidSettingsError.mismatch(
            "n",
            got=f"{images} images of {width}x{height} in {generation.steps} steps",
            expected=f"at most {limits.max_generation_cost:g} steps of a {native_side_px}x{native_side_px} image in "
            f"total, instead of {cost:g}",
        )
