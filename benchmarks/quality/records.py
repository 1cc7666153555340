"""The rows of EmojiBooth's table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from benchmarks.quality.ledger import exactly
from benchmarks.quality.metrics import Figures

T = TypeVar("T")


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
