"""Looks of the whole picture: a style is a colour look, a form look, or one of each."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageOps

Style = tuple[str, str]  # (colour look, form look), either may be ""
BLOCK_PX = 4
FRAME_PX = 6


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


Look = Callable[[Image.Image], Image.Image]
COLOUR_LOOKS: dict[str, Look] = {
    "sepia": _sepia,
    "blueprint": _blueprint,
    "negative": _negative,
    "faded": _faded,
}
FORM_LOOKS: dict[str, Look] = {
    "pixelated": _pixelated,
    "posterised": _posterised,
    "framed": _framed,
    "vignette": _vignette,
}


def apply_style(picture: Image.Image, style: Style) -> Image.Image:
    """The picture in a style: the colour look first (a frame stays white), then the form look."""
    colour, form = style
    if colour:
        picture = COLOUR_LOOKS[colour](picture)
    return FORM_LOOKS[form](picture) if form else picture
