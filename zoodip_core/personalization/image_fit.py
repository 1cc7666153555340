"""How a reference image becomes the square that the base model trains on."""

from __future__ import annotations

from PIL import Image

from zoodip_core.config import ImageFitName
from zoodip_core.images import fit_square, without_opacity


def fit_image(image: Image.Image, side_px: int, fit: ImageFitName) -> Image.Image:
    """Return a square of `side_px`.

    Args:
        image: RGB or RGBA image of any shape; the alpha is dropped.
        side_px: side of the square, in pixels.
        fit: "crop" keeps the center square. "squash" keeps all of the image and changes its proportions, by bicubic
            interpolation as in the published script.
    """
    colors = without_opacity(image)
    if fit == "crop":
        return fit_square(colors, side_px)
    return colors.resize((side_px, side_px), Image.Resampling.BICUBIC)
