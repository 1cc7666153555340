"""Measured rows, stored as JSON lines."""

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

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """The figures of one method on one case, with one seed, after a number of U-Net evaluations."""

    id: str  # hash of everything that the figures depend on
    method: str
    kind: str
    split: str
    subject: str
    seed: int
    forwards: int  # U-Net evaluations (NFE)
    figures: Figures
    fixed_loss: float | None = None  # validation loss
    seconds: float | None = None  # the time of the search of all cases, divided by their number
    peak_mb: float | None = None


class StoredRow(Protocol):
    """A dataclass with an id. Two rows with different ids are different measurements."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def id(self) -> str:
        """Return the hash of everything that the figures depend on."""


R = TypeVar("R", bound=StoredRow)


class RowFile(Generic[R]):
    """The rows of one file by id. A row exists once it is on disk."""

    def __init__(self, path: Path, parse: Callable[[dict[str, Any]], R]) -> None:
        """Read the existing rows.

        Args:
            path: file of JSON lines; a missing file has no rows.
            parse: converts one line's values to a row; raises ValueError, TypeError or KeyError if it is damaged.

        Raises:
            BenchmarkError: a line is damaged.
        """
        self._path = path
        self._rows = _read(path, parse)

    def __contains__(self, row_id: str) -> bool:
        return row_id in self._rows

    def __getitem__(self, row_id: str) -> R:
        return self._rows[row_id]

    def __len__(self) -> int:
        return len(self._rows)

    def values(self) -> list[R]:
        """Return all rows in the order of the file."""
        return list(self._rows.values())

    def add(self, row: R) -> None:
        """Append one line with a single write and wait until it is on disk.

        Raises:
            StorageError: the line could not be written; the file keeps its length.
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


def row_id(facts: Mapping[str, Any]) -> str:
    """Return the id of a row: a hash of named JSON values, and never of the repr of an object.

    Args:
        facts: everything that the row's figures depend on.

    Raises:
        TypeError: a value has no JSON form.
    """
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def parse_row(values: dict[str, Any]) -> Row:
    """Convert one line's values to a row.

    Raises:
        ValueError: a field is missing or unknown.
        KeyError: the figures are missing.
        TypeError: a value has the wrong type.
    """
    return parse_with_figures(Row, Figures, values)


def parse_with_figures(row_type: type[T], figures_type: type[Any], values: dict[str, Any]) -> T:
    """Convert values to a row with nested figures; raises the errors of `parse_row`."""
    return parse_fields(row_type, values | {"figures": parse_fields(figures_type, values["figures"])})


def parse_fields(row_type: type[T], values: dict[str, Any]) -> T:
    """Convert values to a dataclass that has exactly these fields.

    Raises:
        ValueError: a field is missing or unknown.
    """
    odd = set(values) ^ {field.name for field in fields(row_type)}  # type: ignore[arg-type]
    if odd:
        raise ValueError(f"missing or unknown fields: {', '.join(sorted(odd))}")
    return row_type(**values)


def _append(descriptor: int, line: bytes) -> None:
    """Append a complete line, or restore the file: a partial line would break the next run."""
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
        return parse(dict(json.loads(_complete(line))))
    except (ValueError, TypeError, KeyError) as error:
        raise BenchmarkError(
            f"{path}, line {number} is damaged ({error}); remove the line to measure it again"
        ) from error


def _complete(line: str) -> str:
    if not line.endswith("\n"):
        raise ValueError("the line is cut off")
    return line
