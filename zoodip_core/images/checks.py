"""Warnings about usable images: small, far from square, nearly one color, or duplicates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from PIL import Image, ImageStat

from zoodip_core.images.geometry import fit_square
from zoodip_core.images.limits import FIELD
from zoodip_core.input_warnings import InputWarning, WarningCode

_UNIFORM_DEVIATION = 2.0  # of 255; below it no subject is visible
_UNIFORM_SIDE_PX = 64


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Facts of a decoded image that warnings depend on.

    Attributes:
        width: width in px.
        height: height in px.
        digest: SHA-256 of size and pixels, in hexadecimal.
        uniform_color: color of the center square as `#rrggbb` if it has nearly one color, else None.
    """

    width: int
    height: int
    digest: str
    uniform_color: str | None


def image_digest(image: Image.Image) -> str:
    """Return the hex SHA-256 of the size and the pixels of an image."""
    digest = hashlib.sha256(repr(image.size).encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def image_facts(image: Image.Image) -> ImageFacts:
    """Return the facts of a decoded RGB image."""
    square = ImageStat.Stat(fit_square(image, _UNIFORM_SIDE_PX))
    is_uniform = max(square.stddev) < _UNIFORM_DEVIATION
    color = "#" + "".join(f"{round(level):02x}" for level in square.mean)
    return ImageFacts(*image.size, image_digest(image), color if is_uniform else None)


def image_warnings(
    images: Iterable[Image.Image], side_px: int | None, *, cropped: bool = True
) -> list[InputWarning]:
    """Return warnings about usable images.

    Args:
        images: iterated once; none is kept in memory.
        side_px: side of the base model's training images, if known.
        cropped: whether only the center square of each image is used.
    """
    return warnings_from_facts(map(image_facts, images), side_px, cropped=cropped)


def warnings_from_facts(
    facts: Iterable[ImageFacts], side_px: int | None, *, cropped: bool = True
) -> list[InputWarning]:
    """Return warnings about images of which only the facts are known.

    Args:
        facts: facts of each image, in order.
        side_px: side of the base model's training images, if known.
        cropped: whether only the center square of each image is used.
    """
    warnings = []
    first_seen: dict[str, int] = {}
    for number, image in enumerate(facts, start=1):
        warnings += _warnings_of(image, number, side_px, cropped=cropped)
        if image.digest in first_seen:
            message = f"images {first_seen[image.digest]} and {number} are identical"
            warnings.append(InputWarning(WarningCode.IMAGES_IDENTICAL, FIELD, message))
        first_seen.setdefault(image.digest, number)
    return warnings


def _warnings_of(image: ImageFacts, number: int, side_px: int | None, *, cropped: bool) -> list[InputWarning]:
    warnings = []
    short, long = sorted((image.width, image.height))
    if side_px is not None and short < side_px:
        message = (
            f"image {number} has {image.width}×{image.height} px: "
            f"it is enlarged to the {side_px} px of the base model's training images"
        )
        warnings.append(InputWarning(WarningCode.IMAGE_ENLARGED, FIELD, message))
    if cropped and 3 * (long - short) >= long:
        message = f"image {number}: only its center square is used, {1 - short / long:.0%} is cut off"
        warnings.append(InputWarning(WarningCode.IMAGE_CROPPED, FIELD, message))
    if image.uniform_color is not None:
        message = (
            f"image {number}: its center square has nearly one color, {image.uniform_color}; "
            "crop the image around the subject"
        )
        warnings.append(InputWarning(WarningCode.IMAGE_UNIFORM, FIELD, message))
    return warnings
