"""Results of a run: stored rows, and some of the pictures of each row for grids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Generic

from PIL import Image

from benchmarks.quality.report.rows import R, RowFile
from benchmarks.quality.sources import Pictures
from zoodip_core.files import write_atomically

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
            keep_shown(self._pictures / row_id, drawn)
            self._rows.add(row)
            self._log(f"{about}: measured")
        return self._rows[row_id]

    def shown(self, rows: Sequence[R], each: int) -> list[Image.Image]:
        """Return the first `each` stored pictures of every row, in order.

        Returns an empty list if a picture is missing, as for rows copied from another folder.
        """
        found = [read_shown(self._pictures / row.id, each) for row in rows]
        return [picture for pictures in found for picture in pictures] if all(found) else []


def keep_shown(folder: Path, drawn: Pictures) -> None:
    """Store at most `SHOWN` pictures, so that a resumed run can draw its grid.

    Stores the first picture of each prompt, or the first pictures of a single prompt.

    Raises:
        StorageError: a file could not be written.
    """
    kept = drawn[0] if len(drawn) == 1 else [row[0] for row in drawn]
    for index, picture in enumerate(kept[:SHOWN]):
        buffer = BytesIO()
        picture.save(buffer, "PNG")
        write_atomically(folder / f"{index}.png", buffer.getvalue())


def read_shown(folder: Path, count: int) -> list[Image.Image]:
    """Read the first `count` pictures that `keep_shown` stored; return none if one is missing."""
    paths = [folder / f"{index}.png" for index in range(count)]
    return [_read_image(path) for path in paths] if all(path.is_file() for path in paths) else []


def _read_image(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
