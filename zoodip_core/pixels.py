"""A decoded image of any mode → upright RGB in sRGB over white."""

from __future__ import annotations

import contextlib
import struct
from io import BytesIO

import numpy as np
from PIL import ExifTags, Image, ImageCms

_UPRIGHT = {  # EXIF orientation → the turn that undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PROFILE_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # ICC colour space → Pillow mode
_ICC = "icc_profile"


def upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says; EXIF that cannot be read turns nothing, as in browsers."""
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
    """Any mode → RGB in sRGB, transparency over white."""
    image = _eight_bits(image)
    if not image.has_transparency_data:
        return _in_srgb(image, image.info.get(_ICC))
    with_alpha = image.convert("RGBA")
    colours = image.convert("L") if image.mode == "LA" else with_alpha.convert("RGB")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(_in_srgb(colours, image.info.get(_ICC)), mask=with_alpha.getchannel("A"))
    return canvas


def stripped(image: Image.Image) -> Image.Image:
    """Only the pixels of an RGB image: a new one that has never seen the file's metadata."""
    clean = Image.new("RGB", image.size)
    clean.paste(image)
    return clean


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey scaled to 8 bits: Pillow's own conversion would clip it."""
    if not image.mode.startswith("I"):
        return image
    levels = np.asarray(image).astype(np.int64) >> 8
    grey = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    grey.info = {_ICC: image.info[_ICC]} if _ICC in image.info else {}
    return grey


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB through the profile; one that is broken or of other channels counts as none, as in browsers."""
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
