"""Converts a decoded image of any mode to upright sRGB, flattened on white, in bands of bounded memory."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from io import BytesIO

from PIL import ExifTags, Image, ImageCms

from zoodip_core.images.geometry import MAX_SHORT_SIDE_PX

_UPRIGHT = {  # EXIF orientation → transpose that corrects it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PROFILE_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # ICC color space → Pillow mode
_BAND_PIXELS = 1 << 20
_HIGH_BYTES = [level >> 8 for level in range(1 << 16)]

_ToRgb = Callable[[Image.Image], Image.Image]


def orientation_of(image: Image.Image) -> Image.Transpose | None:
    """Return the transpose that the EXIF orientation asks for. Unreadable EXIF is ignored, as in browsers."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except (OSError, SyntaxError, ValueError, LookupError, TypeError, struct.error, UserWarning):
        return None
    return _UPRIGHT.get(orientation) if isinstance(orientation, int) else None


def flatten(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Convert an image of any mode to sRGB without metadata, with transparency flattened on white.

    An image whose short side has more than twice the pixels that base models use is reduced by a whole number.
    Conversion works in bands, so that a large image needs no second copy of its full size.

    Returns:
        The colors, and the opacity as gray levels; None instead of it if no pixel is transparent.
    """
    factor = max(1, min(image.size) // (2 * MAX_SHORT_SIDE_PX))
    rows = max(1, _BAND_PIXELS // image.width // factor) * factor
    size = (-(-image.width // factor), -(-image.height // factor))
    colors, opacity = Image.new("RGB", size), Image.new("L", size, 255)
    to_srgb = _converter(image)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        flat, alpha = _on_white(band, to_srgb)
        colors.paste(_reduced(flat, factor), (0, top // factor))
        if alpha is not None:
            opacity.paste(_reduced(alpha, factor), (0, top // factor))
    return colors, None if opacity.getextrema() == (255, 255) else opacity


def encode_png(image: Image.Image) -> bytes:
    """Encode the pixels as PNG without metadata, with the opacity of an RGBA image. Equal images give equal bytes."""
    clean = image.convert("RGBA" if image.mode == "RGBA" else "RGB")
    clean.info = {}
    buffer = BytesIO()
    clean.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _reduced(image: Image.Image, factor: int) -> Image.Image:
    return image.reduce(factor) if factor > 1 else image


def _on_white(image: Image.Image, to_srgb: _ToRgb) -> tuple[Image.Image, Image.Image | None]:
    """Return the colors of an image on white, and its opacity; None for an image without transparency."""
    if not image.has_transparency_data:
        return to_srgb(_eight_bits(image)), None
    colors, alpha = _split_alpha(image)
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(to_srgb(colors), mask=alpha)
    return canvas, alpha


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Return the colors and the opacity of an image with transparency."""
    if image.mode.startswith("I"):  # Pillow compares only 8 bits
        opacity = [255] * (1 << 16)
        opacity[image.info["transparency"]] = 0
        return _eight_bits(image), image.convert("I").point(opacity, "L")
    with_alpha = image.convert("RGBA")
    colors = image.convert("L") if image.mode in ("L", "LA") else with_alpha.convert("RGB")
    return colors, with_alpha.getchannel("A")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit gray to 8 bits; Pillow's own conversion clips it."""
    return image.convert("I").point(_HIGH_BYTES, "L") if image.mode.startswith("I") else image


def _converter(image: Image.Image) -> _ToRgb:
    """Return the conversion to sRGB with the ICC profile of the image, built once for all bands.

    A broken or unsuitable profile is ignored, as in browsers.
    """
    profile = image.info.get("icc_profile")
    if profile:
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            mode = _PROFILE_MODES.get(source.profile.xcolor_space)
            if mode is not None and mode in _color_modes(image):
                transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
                return lambda band: transform.apply(band if band.mode == mode else band.convert(mode))
    return lambda band: band.convert("RGB")


def _color_modes(image: Image.Image) -> tuple[str, ...]:
    """Return the modes without transparency that hold the colors of the image."""
    if image.mode == "CMYK":
        return ("CMYK",)
    is_gray = image.mode in ("1", "L", "LA") or image.mode.startswith("I")
    return ("L", "RGB") if is_gray else ("RGB",)
