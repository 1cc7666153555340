"""What a run has measured: rows as JSON lines, and some pictures of each for a person to look at."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.metrics import Figures
from zoodip_core.errors import StorageError


class StoredRow(Protocol):
    """A dataclass whose id holds everything that its figures depend on."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def id(self) -> str:
        """A row with another id is another measurement."""


R = TypeVar("R", bound=StoredRow)
T = TypeVar("T")


class Ledger(Generic[R]):
    """The rows of one file by id; a row is there once it is on the disk."""

    def __init__(self, path: Path, parse: Callable[[dict[str, Any]], R]) -> None:
        """Read what is there.

        Args:
            path: of the JSON lines; none there means no rows.
            parse: one line's values as a row; a ValueError, TypeError or KeyError calls it damaged.

        Raises:
            BenchmarkError: a line is damaged; says which.
        """
        self._path = path
        self._rows = _read(path, parse)

    def __contains__(self, row_id: str) -> bool:
        return row_id in self._rows

    def __getitem__(self, row_id: str) -> R:
        return self._rows[row_id]

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: R) -> None:
        """Add a line with one write, and wait until it is on the disk.

        Raises:
            StorageError: it could not be written; the file is as long as before.
        """
        line = (json.dumps(asdict(row), allow_nan=False) + "\n").encode()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                _append(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StorageError(f"{self._path} could not be written: {error.strerror or error}") from error
        self._rows[row.id] = row


def _append(descriptor: int, line: bytes) -> None:
    """Put a whole line at the end of a file, or nothing: half a line would spoil the next run."""
    length = os.fstat(descriptor).st_size
    try:
        _write(descriptor, line)
    except OSError:
        os.ftruncate(descriptor, length)
        raise


def _write(descriptor: int, line: bytes) -> None:
    if os.write(descriptor, line) < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(descriptor)


def row_id(facts: Mapping[str, Any]) -> str:
    """Return the id of a row: a hash of named JSON values, and never of the repr of an object.

    Args:
        facts: everything that the row's figures depend on.

    Raises:
        TypeError: a value has no JSON form.
    """
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def exactly(kind: type[T], values: dict[str, Any]) -> T:
    """A dataclass from values that name each of its fields and nothing else.

    Raises:
        ValueError: a field is missing or unknown.
    """
    odd = set(values) ^ {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if odd:
        raise ValueError(f"missing or unknown: {', '.join(sorted(odd))}")
    return kind(**values)


def _read(path: Path, parse: Callable[[dict[str, Any]], R]) -> dict[str, R]:
    if not path.exists():
        return {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise BenchmarkError(f"{path} cannot be read: {error}") from error
    rows = [_row(path, number, line, parse) for number, line in enumerate(lines, start=1)]
    return {row.id: row for row in rows}


def _row(path: Path, number: int, line: str, parse: Callable[[dict[str, Any]], R]) -> R:
    try:
        return parse(dict(json.loads(_whole(line))))
    except (ValueError, TypeError, KeyError) as error:
        raise BenchmarkError(
            f"{path}, line {number} is damaged ({error}); take the line out, and the run measures it again"
        ) from error


def _whole(line: str) -> str:
    if not line.endswith("\n"):
        raise ValueError("it was cut off")
    return line


@dataclass(frozen=True)
class Row:
    """One method on one case with one seed after so many forwards."""

    id: str  # of everything that the figures depend on; a row with another id is another measurement
    method: str
    kind: str
    half: str
    subject: str
    seed: int
    forwards: int
    figures: Figures
    fixed_loss: float | None = None
    seconds: float | None = None  # of the search of all cases together, shared out
    peak_mb: float | None = None


def parse_row(values: dict[str, Any]) -> Row:
    """A row from a line of the results.

    Raises:
        ValueError: a field is missing or unknown.
        KeyError: the figures are missing.
        TypeError: a value is of another kind.
    """
    return with_figures(Row, Figures, values)


def with_figures(kind: type[T], figures: type[Any], values: dict[str, Any]) -> T:
    """A row of a kind that has those figures; errors are those of `parse_row`."""
    return exactly(kind, values | {"figures": exactly(figures, values["figures"])})
