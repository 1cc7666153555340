"""Warnings about usable images: small, far from square, of one color, blurred, badly exposed, transparent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

from PIL import Image, ImageStat

from zoodip_core.errors import InvalidImageError
from zoodip_core.images.crop import Crop
from zoodip_core.images.geometry import center_square, fit_square
from zoodip_core.images.limits import FIELD, invalid_image
from zoodip_core.images.measures import Exposure, difference_hash, exposure, sharpness, working_square
from zoodip_core.images.opacity import mean_opacity, without_opacity
from zoodip_core.input_warnings import InputWarning, WarningCode

_UNIFORM_DEVIATION = 2.0  # of 255; below it no subject is visible
_UNIFORM_SIDE_PX = 64
_MIN_SHARPNESS = 0.6  # all good pictures have 2.3 or more; blurred by σ = 5 % of the side, 93 % have less
_MAX_DUPLICATE_BITS = 3  # of 64; two good pictures of one subject differ in 6 or more
_MAX_SQUASH = 2  # long side / short side
_MIN_TRANSPARENT = 0.01  # share of the pixels

_Found = tuple[WarningCode, str]  # code and message


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Facts of a decoded image that warnings depend on.

    Attributes:
        width: width in px.
        height: height in px.
        digest: SHA-256 of size and colors, in hexadecimal.
        uniform_color: color of the center square as `#rrggbb` if it has nearly one color, else None.
        sharpness: see `measures.sharpness`.
        exposure: see `measures.exposure`.
        difference_hash: see `measures.difference_hash`.
        opacity: mean opacity of the whole image, 0 to 1.
        square_opacity: mean opacity of its center square, 0 to 1.
    """

    width: int
    height: int
    digest: str
    uniform_color: str | None
    sharpness: float | None
    exposure: Exposure | None
    difference_hash: int | None
    opacity: float
    square_opacity: float

    def used_opacity(self, *, cropped: bool) -> float:
        """Return the mean opacity of the center square, or of the whole image if it is not cropped."""
        return self.square_opacity if cropped else self.opacity


def image_digest(image: Image.Image) -> str:
    """Return the hex SHA-256 of the size and the pixels of an image."""
    digest = hashlib.sha256(repr(image.size).encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def image_facts(image: Image.Image) -> ImageFacts:
    """Return the facts of a decoded RGB or RGBA image."""
    colors = without_opacity(image)
    square = ImageStat.Stat(fit_square(colors, _UNIFORM_SIDE_PX))
    is_uniform = max(square.stddev) < _UNIFORM_DEVIATION
    color = "#" + "".join(f"{round(level):02x}" for level in square.mean)
    working = working_square(colors)
    left, top, side = center_square(*image.size)
    return ImageFacts(
        *image.size,
        digest=image_digest(colors),
        uniform_color=color if is_uniform else None,
        sharpness=sharpness(working),
        exposure=exposure(working),
        difference_hash=difference_hash(colors),
        opacity=mean_opacity(image),
        square_opacity=mean_opacity(image.crop((left, top, left + side, top + side))),
    )


def check_visible(image: ImageFacts, name: str, *, cropped: bool) -> None:
    """Validate that an image can be its own subject mask.

    Args:
        image: facts of the image.
        name: name of its file.
        cropped: whether only its center square is used.

    Raises:
        InvalidImageError: the used part of the image is fully transparent.
    """
    if image.used_opacity(cropped=cropped) == 0:
        raise invisible_image(name)


def invisible_image(name: str) -> InvalidImageError:
    """Return the error for a mask without a subject."""
    got = "fully transparent in the part that is used"
    return invalid_image(name, got, "a visible subject, because masked_loss is on")


def image_warnings(
    images: Iterable[Image.Image],
    side_px: int | None,
    *,
    cropped: bool = True,
    masked: bool = False,
    crops: Sequence[Crop | None] | None = None,
) -> list[InputWarning]:
    """Return warnings about usable images.

    Args:
        images: iterated once; none is kept in memory.
        side_px: side of the base model's training images, if known.
        cropped: whether only the center square of each image is used.
        masked: whether the opacity of the images weights the loss.
        crops: see `warnings_by_image`.
    """
    return warnings_from_facts(map(image_facts, images), side_px, cropped=cropped, masked=masked, crops=crops)


def warnings_from_facts(
    facts: Iterable[ImageFacts],
    side_px: int | None,
    *,
    cropped: bool = True,
    masked: bool = False,
    crops: Sequence[Crop | None] | None = None,
) -> list[InputWarning]:
    """Return warnings about images of which only the facts are known. Arguments as in `image_warnings`."""
    known = list(facts)
    by_image = warnings_by_image(known, side_px, cropped=cropped, masked=masked, crops=crops)
    found = list(chain.from_iterable(by_image))
    if masked and all(image.used_opacity(cropped=cropped) == 1 for image in known):
        message = "no image is transparent anywhere, so masked_loss has no effect"
        found.append(InputWarning(WarningCode.NO_MASK, "settings.masked_loss", message))
    return found


def warnings_by_image(
    facts: Iterable[ImageFacts],
    side_px: int | None,
    *,
    cropped: bool = True,
    masked: bool = False,
    crops: Sequence[Crop | None] | None = None,
) -> list[list[InputWarning]]:
    """Return the warnings about each image. The later one of two duplicates has the warning.

    Args:
        facts: facts of each image, in order.
        side_px: side of the base model's training images, if known.
        cropped: whether only the center square of each image is used.
        masked: whether the opacity of the images weights the loss.
        crops: square that each image was cut down to, or None for a whole image. Default: only whole images.
    """
    warnings: list[list[InputWarning]] = []
    earlier: list[ImageFacts] = []
    for number, (image, crop) in enumerate(zip(facts, crops or repeat(None), strict=False), start=1):
        square = "center square" if crop is None else "chosen square"
        judged = f"image {number}" if crop is None else f"image {number}: its {square}"
        found = [
            *_size_warnings(image, number, judged, side_px, cropped=cropped),
            *_content_warnings(image, number, square),
            *_transparency_warnings(image, number, cropped=cropped, masked=masked),
            *_duplicate_warnings(image, earlier),
        ]
        warnings.append([InputWarning(code, FIELD, message) for code, message in found])
        earlier.append(image)
    return warnings


def _size_warnings(
    image: ImageFacts, number: int, judged: str, side_px: int | None, *, cropped: bool
) -> Iterator[_Found]:
    """Yield warnings about the sides. A chosen square loses nothing, since its sides are equal."""
    short, long = sorted((image.width, image.height))
    size = f"{judged} has {image.width}×{image.height} px"
    if side_px is not None and short < side_px:
        message = f"{size}: it is enlarged to the {side_px} px of the base model's training images"
        yield WarningCode.IMAGE_ENLARGED, message
    if cropped and 3 * (long - short) >= long:
        message = f"image {number}: only its center square is used, {1 - short / long:.0%} is cut off"
        yield WarningCode.IMAGE_CROPPED, message
    if not cropped and long > _MAX_SQUASH * short:
        message = (
            f"{size}: squashing it to a square changes its aspect ratio by a factor of {long / short:.1f}"
        )
        yield WarningCode.IMAGE_DISTORTED, message


def _content_warnings(image: ImageFacts, number: int, square: str) -> Iterator[_Found]:
    """Yield warnings about the pixels. An image of one color has no sharpness or exposure to judge."""
    if image.uniform_color is not None:
        message = (
            f"image {number}: its {square} has nearly one color, {image.uniform_color}; "
            "choose a square around the subject"
        )
        yield WarningCode.IMAGE_UNIFORM, message
        return
    if image.sharpness is not None and image.sharpness < _MIN_SHARPNESS:
        yield WarningCode.IMAGE_BLURRED, f"image {number}: its {square} looks blurred"
    if image.exposure == "over":
        message = f"image {number}: it looks overexposed, large parts of its {square} are white"
        yield WarningCode.IMAGE_OVEREXPOSED, message
    if image.exposure == "under":
        message = f"image {number}: it looks underexposed, nearly all of its {square} is dark"
        yield WarningCode.IMAGE_UNDEREXPOSED, message


def _transparency_warnings(
    image: ImageFacts, number: int, *, cropped: bool, masked: bool
) -> Iterator[_Found]:
    transparent = 1 - image.used_opacity(cropped=cropped)
    if not masked and transparent >= _MIN_TRANSPARENT:
        message = (
            f"image {number}: {transparent:.0%} of it is transparent and becomes white; "
            "masked_loss leaves these parts out of the loss"
        )
        yield WarningCode.IMAGE_TRANSPARENT, message


def _duplicate_warnings(image: ImageFacts, earlier: Sequence[ImageFacts]) -> Iterator[_Found]:
    """Yield a warning about the first earlier image with the same pixels, or else the first similar one."""
    number = len(earlier) + 1
    for other, candidate in enumerate(earlier, start=1):
        if candidate.digest == image.digest:
            yield WarningCode.IMAGES_IDENTICAL, f"images {other} and {number} are identical"
            return
    for other, candidate in enumerate(earlier, start=1):
        if _are_similar(candidate, image):
            yield WarningCode.IMAGES_SIMILAR, f"images {other} and {number} look nearly the same"
            return


def _are_similar(first: ImageFacts, second: ImageFacts) -> bool:
    if first.difference_hash is None or second.difference_hash is None:
        return False
    return (first.difference_hash ^ second.difference_hash).bit_count() <= _MAX_DUPLICATE_BITS
