"""Rows of the benchmark, and the table that is printed from them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.engine.spread import spread
from benchmarks.speed.entries import ENTRIES
from benchmarks.speed.reading import Facts, Reading

HEAD = (
    "entry",
    "weights",
    "it/s",
    "rows/s",
    "of the matrix rate",
    "peak, MB",
    "ratio to a",
    "ratio in CPU time",
    "kernels per forward",
    "launches/s",
)


@dataclass(frozen=True)
class SpeedRow:
    """One reading of an entry, and that of the reference directly before it.

    Attributes:
        id: hash of model, entry, round, options and source code.
        reference_it_per_s: speed of the published procedure.
        busy_share: CPU time of the reading divided by its duration.
        reference_busy_share: the same of the published procedure.
        matrix_share: operations per second, divided by the rate of a large matrix product.
    """

    id: str
    model: str
    entry: str
    round: int
    weights: str
    it_per_s: float
    reference_it_per_s: float
    busy_share: float
    reference_busy_share: float
    rows_per_s: float
    matrix_share: float
    matrix_flops_per_s: float
    peak_mb: float
    kernels_per_forward: float
    launches_per_s: float

    @property
    def ratio(self) -> float:
        """Speed divided by that of the published procedure."""
        return self.it_per_s / self.reference_it_per_s

    @property
    def busy_ratio(self) -> float:
        """The same for steps per second of CPU time, which other processes hardly change."""
        return self.ratio * self.reference_busy_share / self.busy_share


def make_row(
    row_id: str, model: str, entry: str, number: int, facts: Facts, own: Reading, reference: Reading
) -> SpeedRow:
    """Return the row of a reading."""
    return SpeedRow(
        row_id,
        model,
        entry,
        number,
        facts.weights,
        own.it_per_s,
        reference.it_per_s,
        own.busy_share,
        reference.busy_share,
        own.rows_per_s,
        facts.flops_per_row * own.rows_per_s / own.busy_share / own.matrix_flops_per_s,
        own.matrix_flops_per_s,
        facts.peak_bytes / 1e6,
        facts.kernels_per_forward,
        facts.kernels_per_forward * own.forwards_per_s,
    )


def table_rows(rows: Sequence[SpeedRow]) -> list[list[str]]:
    """Return one line for each entry: medians over its rounds, and the range of speed and ratio."""
    names = [name for name in ENTRIES if any(row.entry == name for row in rows)]
    return [_line(name, [row for row in rows if row.entry == name]) for name in names]


def _line(name: str, rows: Sequence[SpeedRow]) -> list[str]:
    def middle(values: Iterable[float]) -> float:
        return statistics.median(values)

    return [
        f"{name}: {ENTRIES[name].about}",
        rows[0].weights,
        spread([row.it_per_s for row in rows]),
        f"{middle(row.rows_per_s for row in rows):.3g}",
        f"{middle(row.matrix_share for row in rows):.0%}",
        f"{middle(row.peak_mb for row in rows):.0f}",
        spread([row.ratio for row in rows]),
        spread([row.busy_ratio for row in rows]),
        f"{middle(row.kernels_per_forward for row in rows):.0f}",
        f"{middle(row.launches_per_s for row in rows):.0f}",
    ]
