"""Results of a run: stored rows, some of the pictures of each row, and grids of these pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from PIL import Image

from benchmarks.quality.cases.protocols import Learnable, PromptTemplate
from benchmarks.quality.report.rows import R, RowFile
from benchmarks.quality.sources import Pictures
from zoodip_core.files import write_atomically
from zoodip_core.grid import GridRow, draw_grid
from zoodip_core.png_metadata import encode_marked

SHOWN = 8  # pictures in a row of a grid


class Results(Generic[R]):
    """The rows of one folder. An existing row is never measured again."""

    def __init__(
        self, out: Path, name: str, parse: Callable[[dict[str, Any]], R], log: Callable[[str], None]
    ) -> None:
        """Read the existing rows.

        Args:
            out: folder of the results.
            name: file name of the JSON lines.
            parse: converts one line's values to a row, as for `RowFile`.
            log: receives one line for each new row.

        Raises:
            BenchmarkError: a line is damaged.
        """
        self._pictures, self._log = out / "pictures", log
        self._rows = RowFile(out / name, parse)

    def row(self, row_id: str, about: str, measure: Callable[[], tuple[R, Pictures]]) -> R:
        """Return the row with this id; measure it first if it is missing.

        Pictures are stored before the row, so that every stored row has its pictures.

        Args:
            row_id: hash of everything that the figures depend on.
            about: description for the log.
            measure: draws the pictures and returns them with their row.

        Raises:
            StorageError: a file could not be written.
        """
        if row_id not in self._rows:
            row, drawn = measure()
            save_grid_images(self._pictures / row_id, drawn)
            self._rows.add(row)
            self._log(f"{about}: measured")
        return self._rows[row_id]

    def shown(self, rows: Sequence[R], each: int) -> list[Image.Image]:
        """Return the first `each` stored pictures of every row, in order.

        Returns an empty list if a picture is missing, as for rows copied from another folder.
        """
        found = [read_grid_images(self._pictures / row.id, each) for row in rows]
        return [picture for pictures in found for picture in pictures] if all(found) else []


def save_grid_images(folder: Path, drawn: Pictures) -> None:
    """Store at most `SHOWN` pictures, so that a resumed run can draw its grid.

    Stores the first picture of each prompt, or the first pictures of a single prompt.

    Raises:
        StorageError: a file could not be written.
    """
    kept = drawn[0] if len(drawn) == 1 else [row[0] for row in drawn]
    for index, picture in enumerate(kept[:SHOWN]):
        write_atomically(folder / f"{index}.png", encode_marked(picture))


def read_grid_images(folder: Path, count: int) -> list[Image.Image]:
    """Read the first `count` pictures that `save_grid_images` stored; return none if one is missing."""
    paths = [folder / f"{index}.png" for index in range(count)]
    return [_read_image(path) for path in paths] if all(path.is_file() for path in paths) else []


def _read_image(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


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
    grid = draw_grid([_grid_row(row) for row in rows])
    write_atomically(path, encode_marked(grid, "compositeSynthetic"))


def _grid_row(row: GridRowSpec) -> GridRow:
    return GridRow(row.title, [row.case.references[0], *row.pictures], ["reference", *row.labels])
