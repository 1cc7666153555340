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
    """One case of a grid: its kept pictures and the prompts that they were drawn from."""

    case: Learnable
    pictures: Sequence[Image.Image]
    asked: Sequence[Phrase]


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


def read_shown(folder: Path) -> list[Image.Image]:
    """What `keep_shown` wrote."""
    found = []
    for index in range(SHOWN):
        path = folder / f"{index}.png"
        if path.is_file():
            with Image.open(path) as image:
                found.append(image.convert("RGB"))
    return found


def columns(asked: Sequence[Phrase], count: int) -> list[str]:
    """What stands above `count` kept pictures: their prompts, or the numbers of a single prompt's pictures."""
    texts = [prompt.with_noun("…").removeprefix("a photo of a ") for prompt in asked[:count]]
    return texts if len(asked) > 1 else [f"{texts[0]}, {number}" for number in range(1, count + 1)]


def write_grid(path: Path, rows: Sequence[GridRow]) -> None:
    """The rows under one another, as PNG.

    Raises:
        StorageError: the file could not be written.
    """
    buffer = BytesIO()
    draw_grid(rows).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())


def write_method_grid(path: Path, shown: Sequence[Shown]) -> None:
    """One row a case: its first reference, then the kept pictures under their prompts.

    Raises:
        StorageError: the file could not be written.
    """
    rows = []
    for one in shown:
        labels = ["reference", *columns(one.asked, len(one.pictures))]
        rows.append(GridRow(one.case.name, [one.case.references[0], *one.pictures], labels))
    write_grid(path, rows)
