"""The grounds a thing stands on: plain colours and painted scenes."""

import random
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
STARS = 12


def jittered(colour: Colour, rng: random.Random, amplitude: int = 10) -> Colour:
    """The colour with each channel moved by up to `amplitude` levels."""
    red, green, blue = (min(255, max(0, level + rng.randint(-amplitude, amplitude))) for level in colour)
    return red, green, blue


def _noisy(rng: random.Random, side_px: int, colour: Colour, amplitude: float, blur_px: float) -> Image.Image:
    """A field of one colour with grey noise of `amplitude` levels, blurred."""
    noise = np.random.default_rng(rng.randint(0, 1 << 30)).normal(0, amplitude, (side_px, side_px, 1))
    field = np.clip(np.array(colour)[None, None] + noise, 0, 255).astype("uint8")
    return Image.fromarray(field).filter(ImageFilter.GaussianBlur(blur_px))


def _horizon(rng: random.Random, side_px: int, sky: Colour, ground: Colour, amplitude: float) -> Image.Image:
    """A sky over a noisy ground."""
    picture = _noisy(rng, side_px, sky, 3, 1)
    top = rng.randint(side_px // 3, side_px // 2 + 6)
    field = _noisy(rng, side_px, ground, amplitude, 0.6)
    picture.paste(field.crop((0, 0, side_px, side_px - top)), (0, top))
    return picture


def _snow(rng: random.Random, side_px: int) -> Image.Image:
    return _horizon(rng, side_px, jittered((176, 196, 222), rng), (238, 242, 248), 5)


def _grass(rng: random.Random, side_px: int) -> Image.Image:
    return _horizon(rng, side_px, jittered((140, 200, 245), rng), (76, 150, 52), 12)


def _beach(rng: random.Random, side_px: int) -> Image.Image:
    picture = _horizon(rng, side_px, jittered((120, 196, 250), rng), (232, 208, 150), 7)
    top = rng.randint(side_px // 4, side_px // 3)
    picture.paste(_noisy(rng, side_px, (36, 120, 190), 8, 1).crop((0, 0, side_px, 8)), (0, top + 6))
    return picture


def _night(rng: random.Random, side_px: int) -> Image.Image:
    picture = Image.new("RGB", (side_px, side_px), jittered((16, 18, 52), rng, 6))
    draw = ImageDraw.Draw(picture)
    for _ in range(STARS):
        draw.point((rng.randint(0, side_px - 1), rng.randint(0, side_px - 1)), fill=(210, 210, 180))
    return picture


def _brick(rng: random.Random, side_px: int) -> Image.Image:
    picture = Image.new("RGB", (side_px, side_px), (205, 195, 185))
    draw = ImageDraw.Draw(picture)
    colour = jittered((168, 72, 54), rng)
    for row, top in enumerate(range(0, side_px, 8)):
        for left in range(-8 * (row % 2), side_px, 16):
            draw.rectangle([left, top, left + 14, top + 6], fill=jittered(colour, rng, 8))
    return picture


def _wood(rng: random.Random, side_px: int) -> Image.Image:
    picture = Image.new("RGB", (side_px, side_px), (120, 80, 46))
    draw = ImageDraw.Draw(picture)
    for top in range(0, side_px, 16):
        draw.rectangle([0, top, side_px, top + 14], fill=jittered((176, 124, 74), rng, 12))
    return picture


SCENES: dict[str, Callable[[random.Random, int], Image.Image]] = {
    "in the snow": _snow,
    "on the grass": _grass,
    "on the beach": _beach,
    "in the night": _night,
    "by a brick wall": _brick,
    "on the wood": _wood,
}


def paint_ground(
    plain_grounds: Mapping[str, Colour], ground: str, rng: random.Random, side_px: int
) -> Image.Image:
    """The picture of an empty ground: a painted scene, or "on" a plain colour."""
    if ground in SCENES:
        return SCENES[ground](rng, side_px)
    colour = plain_grounds[ground.removeprefix("on ")]
    return Image.new("RGB", (side_px, side_px), jittered(colour, rng))
