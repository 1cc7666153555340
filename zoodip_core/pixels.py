"""Converts a decoded image of any mode to upright sRGB, flattened on white."""

from __future__ import annotations

import contextlib
import struct
from io import BytesIO

import numpy as np
from PIL import ExifTags, Image, ImageCms

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
_ICC = "icc_profile"


def upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation. Unreadable EXIF is ignored, as in browsers."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except (OSError, SyntaxError, ValueError, LookupError, TypeError, struct.error, UserWarning):
        return image
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    if turn is None:
        return image
    turned = image.transpose(turn)
    turned.info = image.info
    return turned


def on_white(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to sRGB, with transparency flattened on white."""
    image = _eight_bits(image)
    if not image.has_transparency_data:
        return _in_srgb(image, image.info.get(_ICC))
    with_alpha = image.convert("RGBA")
    colors = image.convert("L") if image.mode == "LA" else with_alpha.convert("RGB")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(_in_srgb(colors, image.info.get(_ICC)), mask=with_alpha.getchannel("A"))
    return canvas


def stripped(image: Image.Image) -> Image.Image:
    """Copy the pixels of an RGB image to a new image without metadata."""
    clean = Image.new("RGB", image.size)
    clean.paste(image)
    return clean


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit gray to 8 bits; Pillow's own conversion clips it."""
    if not image.mode.startswith("I"):
        return image
    levels = np.asarray(image).astype(np.int64) >> 8
    gray = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    gray.info = {_ICC: image.info[_ICC]} if _ICC in image.info else {}
    return gray


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert to sRGB with the ICC profile. A broken or unsuitable profile is ignored, as in browsers."""
    if profile:
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            mode = _PROFILE_MODES.get(source.profile.xcolor_space)
            direct = image.convert("RGB") if mode == "RGB" and image.mode != "CMYK" else image
            if mode == direct.mode:
                srgb = ImageCms.createProfile("sRGB")
                transformed = ImageCms.profileToProfile(direct, source, srgb, outputMode="RGB")
                if transformed is not None:
                    return transformed
    return image if image.mode == "RGB" else image.convert("RGB")
