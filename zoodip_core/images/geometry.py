"""Sizes of reference images: the center square, and the reduction of large photos."""

from __future__ import annotations

from PIL import Image

MAX_SHORT_SIDE_PX = 1024  # training size of the largest family, SDXL; larger images would be reduced anyway


def center_square(width: int, height: int) -> tuple[int, int, int]:
    """Return left, top and side in px of the center square of an image."""
    short = min(width, height)
    return (width - short) // 2, (height - short) // 2, short


def fit_square(image: Image.Image, side_px: int) -> Image.Image:
    """Crop the image to its center square and resize it to `side_px`, as the base model trains on it."""
    left, top, short = center_square(*image.size)
    square = image.crop((left, top, left + short, top + short))
    return square.resize((side_px, side_px), Image.Resampling.LANCZOS)


def shrink(image: Image.Image) -> Image.Image:
    """Resize the image so that its short side has at most 1,024 px."""
    short = min(image.size)
    if short <= MAX_SHORT_SIDE_PX:
        return image
    width, height = (max(1, round(side * MAX_SHORT_SIDE_PX / short)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)
