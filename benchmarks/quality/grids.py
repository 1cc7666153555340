"""Pictures that are kept for a person to look at, and the grids that show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from benchmarks.quality.drawing import Pictures
from benchmarks.quality.learnable import Learnable
from benchmarks.quality.phrase import Phrase
from zoodip_core.files import write_atomically
from zoodip_core.grid import GridRow, draw_grid

SHOWN = 8  # pictures in a row of a grid


@dataclass(frozen=True)
class Shown:
    """One row of a grid: a case's first reference, then kept pictures under their labels."""

    title: str
    case: Learnable
    pictures: Sequence[Image.Image]  # empty where they are not kept here
    labels: Sequence[str]


def keep_shown(folder: Path, drawn: Pictures) -> None:
    """Some pictures as files, so that a resumed run can still show them.

    Of several prompts the first picture of each, of a single one its first pictures; at most `SHOWN`.

    Raises:
        StorageError: a file could not be written.
    """
    kept = drawn[0] if len(drawn) == 1 else [row[0] for row in drawn]
    for index, picture in enumerate(kept[:SHOWN]):
        buffer = BytesIO()
        picture.save(buffer, "PNG")
        write_atomically(folder / f"{index}.png", buffer.getvalue())


def read_shown(folder: Path, count: int) -> list[Image.Image]:
    """The first `count` pictures that `keep_shown` wrote; none if one of them is missing."""
    paths = [folder / f"{index}.png" for index in range(count)]
    return [_read(path) for path in paths] if all(path.is_file() for path in paths) else []


def columns(asked: Sequence[Phrase], each: int) -> list[str]:
    """What stands above the kept ones of `each` pictures of every prompt: the prompts, or a single one's numbers."""
    texts = [prompt.with_noun("…").removeprefix("a photo of a ") for prompt in asked]
    found = texts if len(asked) > 1 else [f"{texts[0]}, {number}" for number in range(1, each + 1)]
    return found[:SHOWN]


def write_grid(path: Path, rows: Sequence[Shown]) -> None:
    """The rows under one another, as PNG; without all their pictures nothing, and what is there stays.

    Raises:
        StorageError: the file could not be written.
    """
    if not rows or not all(row.pictures for row in rows):
        return
    buffer = BytesIO()
    draw_grid([_grid_row(row) for row in rows]).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())


def _grid_row(row: Shown) -> GridRow:
    return GridRow(row.title, [row.case.references[0], *row.pictures], ["reference", *row.labels])


def _read(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
