"""Pictures that are kept for a person to look at, and the grids that show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from benchmarks.quality.cases.protocols import Learnable, Phrase
from benchmarks.quality.report.results import SHOWN
from zoodip_core.files import write_atomically
from zoodip_core.grid import GridRow, draw_grid


@dataclass(frozen=True)
class Shown:
    """One row of a grid: a case's first reference, then kept pictures under their labels."""

    title: str
    case: Learnable
    pictures: Sequence[Image.Image]  # empty where they are not kept here
    labels: Sequence[str]


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
