"""A reference image becomes a square by a crop or by a squash."""

from __future__ import annotations

import numpy as np
from PIL import Image

from zoodip_core.images import fit_square
from zoodip_core.personalization.image_fit import fit_image


def _thirds() -> Image.Image:
    """Return an image of 96×32 px: a red, a green and a blue square, from left to right."""
    pixels = np.zeros((32, 96, 3), np.uint8)
    for index in range(3):
        pixels[:, index * 32 : (index + 1) * 32, index] = 255
    return Image.fromarray(pixels)


def test_a_crop_keeps_the_center() -> None:
    """Only the green square remains."""
    square = fit_image(_thirds(), 16, "crop")
    assert square == fit_square(_thirds(), 16)
    assert {color for _, color in square.getcolors()} == {(0, 255, 0)}


def test_a_squash_keeps_all_of_the_image() -> None:
    """Each color takes a third of the square, as after the published script's bicubic resize."""
    square = np.asarray(fit_image(_thirds(), 48, "squash"))
    assert square.shape == (48, 48, 3)
    for index in range(3):
        expected = np.eye(3, dtype=int)[index] * 255
        assert (square[:, index * 16 + 4 : index * 16 + 12] == expected).all()
