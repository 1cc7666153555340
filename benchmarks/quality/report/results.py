"""What a run has measured: rows as JSON lines, and some pictures of each for a person to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Generic

from PIL import Image

from benchmarks.quality.report.rows import Ledger, R
from benchmarks.quality.sources import Pictures
from zoodip_core.files import write_atomically

SHOWN = 8  # pictures in a row of a grid


class Results(Generic[R]):
    """The rows of one folder; what was measured before is not measured again."""

    def __init__(
        self, out: Path, name: str, parse: Callable[[dict[str, Any]], R], tell: Callable[[str], None]
    ) -> None:
        """Read the rows that are there.

        Args:
            out: the folder.
            name: of the file of JSON lines in it.
            parse: one line's values as a row, as `Ledger` takes it.
            tell: is told of each new row.

        Raises:
            BenchmarkError: a line is damaged; says which.
        """
        self._pictures, self._tell = out / "pictures", tell
        self._ledger = Ledger(out / name, parse)

    def row(self, row_id: str, about: str, measure: Callable[[], tuple[R, Pictures]]) -> R:
        """The row with that id, measured if it is missing: what was drawn is kept before the row is.

        Args:
            row_id: everything that the figures depend on.
            about: what is measured, for a person.
            measure: draws the pictures and gives their row, with that id.

        Raises:
            StorageError: a file could not be written.
        """
        if row_id not in self._ledger:
            row, drawn = measure()
            keep_shown(self._pictures / row_id, drawn)
            self._ledger.add(row)
            self._tell(f"{about}: measured")
        return self._ledger[row_id]

    def shown(self, rows: Sequence[R], each: int) -> list[Image.Image]:
        """The first `each` kept pictures of every row, one row after the other.

        None unless all of them are kept here: a line may have come from another folder without its pictures.
        """
        found = [read_shown(self._pictures / row.id, each) for row in rows]
        return [picture for pictures in found for picture in pictures] if all(found) else []


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
    return [_read_image(path) for path in paths] if all(path.is_file() for path in paths) else []


def _read_image(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
