"""What a run has measured: rows as JSON lines, and some pictures of each for a person to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic

from PIL import Image

from benchmarks.quality.drawing import Pictures
from benchmarks.quality.grids import keep_shown, read_shown
from benchmarks.quality.ledger import Ledger, R


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
