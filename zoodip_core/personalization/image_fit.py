"""How a reference image becomes the square that the base model trains on."""

from __future__ import annotations

from PIL import Image

from zoodip_core.config import ImageFitName
from zoodip_core.images import fit_square


def fit_image(image: Image.Image, side_px: int, fit: ImageFitName) -> Image.Image:
    """Return a square of `side_px`.

    Args:
        image: RGB image of any shape.
        side_px: side of the square, in pixels.
        fit: "crop" keeps the center square. "squash" keeps all of the image and changes its proportions, by bicubic
            interpolation as in the published script.
    """
    if fit == "crop":
        return fit_square(image, side_px)
    return image.resize((side_px, side_px), Image.Resampling.BICUBIC)
