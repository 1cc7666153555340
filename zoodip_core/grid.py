"""Draws a labeled grid of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

TILE_PX = 192
GAP_PX = 8
LABEL_PX = 26
BACKGROUND = (250, 250, 250)
INK = (30, 30, 34)


@dataclass(frozen=True)
class GridRow:
    """One row: a title, images, and a label under each image."""

    title: str
    images: Sequence[Image.Image]
    labels: Sequence[str]


def draw_grid(rows: Sequence[GridRow]) -> Image.Image:
    """Draw the rows as one image. Small images are enlarged without smoothing."""
    columns = max(len(row.images) for row in rows)
    row_px = LABEL_PX + TILE_PX + LABEL_PX + GAP_PX
    sheet = Image.new("RGB", (GAP_PX + columns * (TILE_PX + GAP_PX), GAP_PX + len(rows) * row_px), BACKGROUND)
    title, label = ImageFont.load_default(18), ImageFont.load_default(13)
    pen = ImageDraw.Draw(sheet)
    for index, row in enumerate(rows):
        top = GAP_PX + index * row_px
        pen.text((GAP_PX, top), row.title, INK, title)
        for column, (image, text) in enumerate(zip(row.images, row.labels, strict=True)):
            left = GAP_PX + column * (TILE_PX + GAP_PX)
            sheet.paste(_tile(image), (left, top + LABEL_PX))
            pen.text((left, top + LABEL_PX + TILE_PX + 4), _short(text), INK, label)
    return sheet


def _tile(image: Image.Image) -> Image.Image:
    smooth = max(image.size) > TILE_PX
    return image.resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST)


def _short(text: str, limit: int = 30) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
