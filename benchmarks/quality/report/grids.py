"""Grids of stored pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from benchmarks.quality.cases.protocols import Learnable, PromptTemplate
from benchmarks.quality.report.results import SHOWN
from zoodip_core.files import write_atomically
from zoodip_core.grid import GridRow, draw_grid


@dataclass(frozen=True)
class GridRowSpec:
    """One row of a grid: the case's first reference, then stored pictures with their labels."""

    title: str
    case: Learnable
    pictures: Sequence[Image.Image]  # empty if the pictures are not in this folder
    labels: Sequence[str]


def column_labels(prompts: Sequence[PromptTemplate], each: int) -> list[str]:
    """Return the labels of the stored pictures: the prompts, or the numbered pictures of a single prompt.

    Args:
        prompts: the prompts of the case.
        each: number of pictures of every prompt.
    """
    texts = [prompt.with_noun("…").removeprefix("a photo of a ") for prompt in prompts]
    found = texts if len(prompts) > 1 else [f"{texts[0]}, {number}" for number in range(1, each + 1)]
    return found[:SHOWN]


def write_grid(path: Path, rows: Sequence[GridRowSpec]) -> None:
    """Write the rows as one PNG. If a picture is missing, keep the existing file unchanged.

    Raises:
        StorageError: the file could not be written.
    """
    if not rows or not all(row.pictures for row in rows):
        return
    buffer = BytesIO()
    draw_grid([_grid_row(row) for row in rows]).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())


def _grid_row(row: GridRowSpec) -> GridRow:
    return GridRow(row.title, [row.case.references[0], *row.pictures], ["reference", *row.labels])
