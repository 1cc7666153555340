"""Patterns of a thing: dark stripes or spots over its sprite."""

from collections.abc import Callable

from PIL import Image, ImageDraw

DARK = (40, 32, 40, 255)


def _striped(draw: ImageDraw.ImageDraw, side_px: int) -> None:
    for top in range(0, side_px, 26):
        draw.rectangle([0, top, side_px, top + 11], fill=200)


def _spotted(draw: ImageDraw.ImageDraw, side_px: int) -> None:
    for row, y in enumerate(range(6, side_px, 28)):
        for x in range(6 + 14 * (row % 2), side_px, 28):
            draw.ellipse([x - 7, y - 7, x + 7, y + 7], fill=220)


PATTERNS: dict[str, Callable[[ImageDraw.ImageDraw, int], None]] = {"striped": _striped, "spotted": _spotted}


def patterned(picture: Image.Image, pattern: str) -> Image.Image:
    """The RGBA sprite with its pattern."""
    mask = Image.new("L", picture.size, 0)
    PATTERNS[pattern](ImageDraw.Draw(mask), picture.width)
    painted = Image.composite(Image.new("RGBA", picture.size, DARK), picture, mask)
    painted.putalpha(picture.getchannel("A"))
    return painted
