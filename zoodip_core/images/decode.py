"""Decodes image files to upright sRGB images without metadata."""

from __future__ import annotations

import struct
import warnings
import zlib
from dataclasses import dataclass
from io import BytesIO

from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from zoodip_core.images import formats
from zoodip_core.images.crop import SWAPS_SIDES, Crop
from zoodip_core.images.geometry import MAX_SHORT_SIDE_PX, shrink
from zoodip_core.images.headers import MAX_SCANS, count_scans, webp_size
from zoodip_core.images.limits import ImageLimits, invalid_image
from zoodip_core.images.opacity import with_opacity, without_opacity
from zoodip_core.images.pixels import flatten, orientation_of
from zoodip_core.images.png import strip_png

DEFAULT_LIMITS = ImageLimits()

# Exceptions of Pillow and pillow-heif for truncated or damaged files.
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, RuntimeError, AttributeError),
    *(ArithmeticError, struct.error, zlib.error, Image.DecompressionBombError),
)


@dataclass(frozen=True, slots=True)
class ImageFileFacts:
    """Format of an image file, and the size of its upright image before any reduction.

    Attributes:
        format: PNG, JPEG, WebP, AVIF, HEIC or HEIF.
        width: width in px.
        height: height in px.
    """

    format: str
    width: int
    height: int


def decode_image(
    data: bytes, *, name: str, limits: ImageLimits = DEFAULT_LIMITS, crop: Crop | None = None
) -> Image.Image:
    """Return the RGB image of `decode_image_file`. Arguments and errors are the same."""
    return without_opacity(decode_image_file(data, name=name, limits=limits, crop=crop)[0])


def decode_image_file(
    data: bytes, *, name: str, limits: ImageLimits = DEFAULT_LIMITS, crop: Crop | None = None
) -> tuple[Image.Image, ImageFileFacts]:
    """Decode the first frame of an image file: upright, sRGB, flattened on white, without metadata.

    An image with transparent pixels is RGBA: its colors are flattened on white, its alpha is the opacity. Other
    images are RGB.

    The short side of the image has at most 1,024 px. JPEG files are reduced while they are decoded. A crop is cut out
    before, from as many pixels as it needs, so a small one of a large photo keeps its details.

    Args:
        data: content of a PNG, JPEG, WebP, AVIF or HEIC file. The content decides the format, not the name.
        name: name of the file in error messages.
        limits: limits of bytes and pixels.
        crop: square to cut out; None keeps the whole image.

    Raises:
        ImageTooLargeError: the file has too many bytes.
        InvalidInputError: the crop is not inside the image, or is too small.
        InvalidImageError: the format is not allowed, a size is out of range, or the file is damaged. Or it is a
            HEIC file, and the package that reads it is missing.
    """
    limits.check_bytes(len(data), name)
    image_format = formats.identify(data[: formats.SNIFF_BYTES])
    if image_format not in formats.READABLE:
        raise invalid_image(name, formats.describe(name, data[: formats.SNIFF_BYTES]), formats.EXPECTED)
    try:
        with warnings.catch_warnings(action="ignore"), _open(data, image_format, name, limits) as image:
            limits.check_size(image.size, name)
            sides = image.size
            _load(image, crop)
            turn = orientation_of(image)
            width, height = reversed(sides) if turn in SWAPS_SIDES else sides
            if crop is not None:
                crop.check(width, height, name)
            used = image if crop is None else image.crop(crop.stored_box(turn, sides, image.size))
            colors, opacity = flatten(used)
            reduced = with_opacity(shrink(colors), None if opacity is None else shrink(opacity))
            upright = reduced if turn is None else reduced.transpose(turn)
            return upright, ImageFileFacts(image_format, width, height)
    except MemoryError as error:
        raise invalid_image(name, "takes too much memory to decode", "a smaller image") from error
    except _DAMAGE as error:
        raise invalid_image(name, f"a truncated or damaged {image_format} file", formats.EXPECTED) from error


def decode_stored_image(data: bytes, *, name: str) -> Image.Image:
    """Decode a PNG file that `encode_png` wrote: RGB, or RGBA with colors that are flattened already.

    Args:
        data: content of the file.
        name: name of the image in error messages.

    Raises:
        InvalidImageError: the file is damaged.
    """
    try:
        with PngImageFile(BytesIO(strip_png(data))) as image:
            image.load()
            return image.copy()
    except _DAMAGE as error:
        raise invalid_image(name, "a truncated or damaged file", "a PNG file of this program") from error


def _load(image: ImageFile, crop: Crop | None) -> None:
    """Decode the pixels. A JPEG file is reduced, but not below twice the pixels that base models use of it."""
    if isinstance(image, JpegImageFile):
        used = min(image.size) if crop is None else max(1, crop.side)
        width, height = (2 * MAX_SHORT_SIDE_PX * side // used for side in image.size)
        image.draft(None, (width, height))
    image.load()


def _open(data: bytes, image_format: str, name: str, limits: ImageLimits) -> ImageFile:
    """Read the header with the plugin of the format.

    Plugins are called directly: `Image.open` has a limit of pixels that is global to the process, and it takes
    the pictures of a phone for an animation (MPO).
    """
    if image_format == formats.PNG:
        return PngImageFile(BytesIO(strip_png(data)))
    if image_format == formats.JPEG:
        return _open_jpeg(data, name)
    if image_format == formats.WEBP:
        limits.check_size(webp_size(data), name)
        return WebPImageFile(BytesIO(data))
    if image_format == formats.AVIF:
        return _open_avif(data)
    return _open_heif(data, image_format, name)


def _open_jpeg(data: bytes, name: str) -> ImageFile:
    scans = count_scans(data)
    if scans > MAX_SCANS:
        raise invalid_image(name, f"a JPEG file with {scans} scans", f"at most {MAX_SCANS} scans")
    return JpegImageFile(BytesIO(data))


def _open_avif(data: bytes) -> ImageFile:
    image = AvifImageFile(BytesIO(data))
    image.info.pop("xmp", None)  # its orientation does not apply: AVIF declares rotations elsewhere
    return image


def _open_heif(data: bytes, image_format: str, name: str) -> ImageFile:
    try:
        from pillow_heif.as_plugin import HeifImageFile
    except ImportError as error:
        raise invalid_image(
            name,
            f"{image_format}; the package pillow-heif is not installed",
            "pip install 'zoodip[heif]', or the image converted to JPEG",
        ) from error
    plugin: type[ImageFile] = HeifImageFile
    return plugin(BytesIO(data))
