"""Contact sheet: all images of a prompt set in one picture with captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from PIL import Image, ImageOps

from zoodip_core.grid import BACKGROUND, TILE_PX, GridRow, draw_grid

_COLUMNS = 6


@dataclass(frozen=True)
class SheetImage:
    """An image with its prompt template, the concept that fills it, and its seed."""

    template: str
    concept: str | None
    seed: int
    tile: Image.Image

    @classmethod
    def of(cls, template: str, concept: str | None, seed: int, image: Image.Image) -> SheetImage:
        """Return an entry that holds only a small copy of the image, which keeps its proportions."""
        resample = Image.Resampling.LANCZOS if max(image.size) > TILE_PX else Image.Resampling.NEAREST
        tile = ImageOps.pad(image.convert("RGB"), (TILE_PX, TILE_PX), resample, BACKGROUND)
        return cls(template, concept, seed, tile)


def draw_contact_sheet(images: Sequence[SheetImage]) -> Image.Image:
    """Draw the images of each template in rows under its text, each with its concept and seed.

    Args:
        images: one or more images; those of one template follow each other.
    """
    rows = []
    for template, group in groupby(images, key=lambda one: one.template):
        own = list(group)
        for first in range(0, len(own), _COLUMNS):
            part = own[first : first + _COLUMNS]
            labels = [" ".join(filter(None, (one.concept, f"seed {one.seed}"))) for one in part]
            rows.append(GridRow("" if first else template, [one.tile for one in part], labels))
    return draw_grid(rows)
