"""Paint the parts of a picture: backgrounds, patterns on the object, and filters over the whole picture."""

import random
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from models.emoji.errors import WorldError

Color = tuple[int, int, int]
Style = tuple[str, str]  # (color filter, form filter); either may be ""
Filter = Callable[[Image.Image], Image.Image]

DARK = (40, 32, 40, 255)
STARS = 12
BLOCK_PX = 4
FRAME_PX = 6


def jittered(color: Color, rng: random.Random, amplitude: int = 10) -> Color:
    """Return the color with each channel shifted by up to `amplitude` levels."""
    red, green, blue = (min(255, max(0, level + rng.randint(-amplitude, amplitude))) for level in color)
    return red, green, blue


def _noisy(rng: random.Random, side_px: int, color: Color, amplitude: float, blur_px: float) -> Image.Image:
    """Return a field of one color with blurred gray noise of `amplitude` levels."""
    noise = np.random.default_rng(rng.randint(0, 1 << 30)).normal(0, amplitude, (side_px, side_px, 1))
    field = np.clip(np.array(color)[None, None] + noise, 0, 255).astype("uint8")
    return Image.fromarray(field).filter(ImageFilter.GaussianBlur(blur_px))


def _horizon(rng: random.Random, side_px: int, sky: Color, ground: Color, amplitude: float) -> Image.Image:
    """Return a sky above noisy ground."""
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
    color = jittered((168, 72, 54), rng)
    for row, top in enumerate(range(0, side_px, 8)):
        for left in range(-8 * (row % 2), side_px, 16):
            draw.rectangle([left, top, left + 14, top + 6], fill=jittered(color, rng, 8))
    return picture


def _wood(rng: random.Random, side_px: int) -> Image.Image:
    picture = Image.new("RGB", (side_px, side_px), (120, 80, 46))
    draw = ImageDraw.Draw(picture)
    for top in range(0, side_px, 16):
        draw.rectangle([0, top, side_px, top + 14], fill=jittered((176, 124, 74), rng, 12))
    return picture


PAINTED_BACKGROUNDS: dict[str, Callable[[random.Random, int], Image.Image]] = {
    "in the snow": _snow,
    "on the grass": _grass,
    "on the beach": _beach,
    "in the night": _night,
    "by a brick wall": _brick,
    "on the wood": _wood,
}


def paint_background(
    plain_backgrounds: Mapping[str, Color], background: str, rng: random.Random, side_px: int
) -> Image.Image:
    """Return an empty background: a painted scene, or a plain color for "on <color>"."""
    if background in PAINTED_BACKGROUNDS:
        return PAINTED_BACKGROUNDS[background](rng, side_px)
    color = plain_backgrounds[background.removeprefix("on ")]
    return Image.new("RGB", (side_px, side_px), jittered(color, rng))


def _striped(draw: ImageDraw.ImageDraw, side_px: int) -> None:
    for top in range(0, side_px, 26):
        draw.rectangle([0, top, side_px, top + 11], fill=200)


def _spotted(draw: ImageDraw.ImageDraw, side_px: int) -> None:
    for row, y in enumerate(range(6, side_px, 28)):
        for x in range(6 + 14 * (row % 2), side_px, 28):
            draw.ellipse([x - 7, y - 7, x + 7, y + 7], fill=220)


PATTERNS: dict[str, Callable[[ImageDraw.ImageDraw, int], None]] = {"striped": _striped, "spotted": _spotted}


def apply_pattern(sprite: Image.Image, pattern: str) -> Image.Image:
    """Return the RGBA sprite with dark stripes or spots."""
    mask = Image.new("L", sprite.size, 0)
    PATTERNS[pattern](ImageDraw.Draw(mask), sprite.width)
    painted = Image.composite(Image.new("RGBA", sprite.size, DARK), sprite, mask)
    painted.putalpha(sprite.getchannel("A"))
    return painted


def _sepia(picture: Image.Image) -> Image.Image:
    return ImageOps.colorize(picture.convert("L"), (44, 26, 10), (255, 240, 205), mid=(168, 124, 76))


def _blueprint(picture: Image.Image) -> Image.Image:
    light = ImageOps.invert(ImageOps.autocontrast(picture.convert("L"), 1))
    return ImageOps.colorize(light, (6, 34, 110), (232, 242, 255), mid=(60, 112, 200))


def _negative(picture: Image.Image) -> Image.Image:
    return ImageOps.invert(picture)


def _faded(picture: Image.Image) -> Image.Image:
    return Image.blend(picture, Image.new("RGB", picture.size, (255, 250, 244)), 0.62)


def _pixelated(picture: Image.Image) -> Image.Image:
    small = picture.resize((picture.width // BLOCK_PX, picture.height // BLOCK_PX), Image.Resampling.BOX)
    return small.resize(picture.size, Image.Resampling.NEAREST)


def _posterised(picture: Image.Image) -> Image.Image:
    levels = np.asarray(picture, dtype=np.float32) / 255
    return Image.fromarray((np.round(levels * 3) * 85).astype("uint8"))


def _framed(picture: Image.Image) -> Image.Image:
    framed = picture.copy()
    edge = ImageDraw.Draw(framed)
    edge.rectangle([0, 0, picture.width - 1, picture.height - 1], outline=(250, 250, 250), width=FRAME_PX)
    edge.rectangle(
        [FRAME_PX - 2, FRAME_PX - 2, picture.width + 1 - FRAME_PX, picture.height + 1 - FRAME_PX],
        outline=(20, 20, 20),
        width=2,
    )
    return framed


def _vignette(picture: Image.Image) -> Image.Image:
    axis = np.linspace(-1, 1, picture.width)
    radius = np.sqrt(axis[:, None] ** 2 + axis[None] ** 2)
    light = np.clip(1.45 - radius, 0.0, 1.0)[..., None]
    return Image.fromarray((np.asarray(picture) * light).astype("uint8"))


COLOR_FILTERS: dict[str, Filter] = {
    "sepia": _sepia,
    "blueprint": _blueprint,
    "negative": _negative,
    "faded": _faded,
}
FORM_FILTERS: dict[str, Filter] = {
    "pixelated": _pixelated,
    "posterised": _posterised,  # the spelling of the trained word
    "framed": _framed,
    "vignette": _vignette,
}


def apply_style(picture: Image.Image, style: Style) -> Image.Image:
    """Apply the color filter, then the form filter, so that a frame stays white."""
    color, form = style
    if color:
        picture = COLOR_FILTERS[color](picture)
    return FORM_FILTERS[form](picture) if form else picture


def read_colors(field: str, table: dict[str, list[int]]) -> dict[str, Color]:
    """Return RGB triples by name.

    Raises:
        WorldError: a color is not three bytes.
    """
    for name, levels in table.items():
        if len(levels) != 3 or not all(type(level) is int and 0 <= level <= 255 for level in levels):
            raise WorldError(f"{field}.{name}: got {levels}; expected three whole numbers from 0 to 255")
    return {name: (red, green, blue) for name, (red, green, blue) in table.items()}


def read_paintable_lists(table: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the lists of names in a world file, after checking that each name has a painter.

    Raises:
        WorldError: a name has no painter.
    """
    painters: dict[str, Collection[str]] = {
        "patterns": PATTERNS,
        "painted_backgrounds": PAINTED_BACKGROUNDS,
        "color_filters": COLOR_FILTERS,
        "form_filters": FORM_FILTERS,
    }
    for field, names in table.items():
        for name in names if isinstance(names, list) else [names]:
            if field in painters and name not in painters[field]:
                known = ", ".join(sorted(painters[field]))
                raise WorldError(f"lists.{field}: got {name!r}; expected one of {known}")
    return {field: tuple(names) for field, names in table.items()}
