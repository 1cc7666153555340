"""Opacity of reference images: the alpha of an RGBA image, whose colors are flattened on white."""

from __future__ import annotations

from PIL import Image, ImageStat

_OPAQUE = 255


def with_opacity(colors: Image.Image, opacity: Image.Image | None) -> Image.Image:
    """Return an RGBA image of RGB colors and gray levels; the colors alone for None."""
    return colors if opacity is None else Image.merge("RGBA", (*colors.split(), opacity))


def without_opacity(image: Image.Image) -> Image.Image:
    """Return the colors of an RGBA image as they are, without blending; other images unchanged."""
    return image.convert("RGB") if image.mode == "RGBA" else image


def mean_opacity(image: Image.Image) -> float:
    """Return the mean opacity of an image: 0 only if no pixel is visible, 1 for an image that is not RGBA."""
    if image.mode != "RGBA":
        return 1.0
    (mean,) = ImageStat.Stat(image.getchannel("A")).mean
    return mean / _OPAQUE
