"""Rows as one markdown table: means over cases, intervals by bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from typing import Protocol, TypeVar

from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.metrics import interval
from benchmarks.quality.report.rows import Row

HEAD = (
    "method",
    "forwards",
    "all right",
    "ground",
    "asked change",
    "in another tint",
    "CLIP-I",
    "CLIP-T",
    "alike",
    "fixed-set loss",
    "s a case",
    "peak, MB",
)
ABSENT = "–"


class OfSubject(Protocol):
    """A row that belongs to a case."""

    @property
    def subject(self) -> str:
        """The name of the case."""


class OfMethod(OfSubject, Protocol):
    """A row that belongs to a case and a method."""

    @property
    def method(self) -> str:
        """The name of the method."""

    @property
    def forwards(self) -> int:
        """U-Net forwards of one case."""


T = TypeVar("T", bound=OfSubject)
M = TypeVar("M", bound=OfMethod)
Column = tuple[Callable[[T], float | None], int, bool]  # what to read, digits, whether with an interval


def _figure(name: str) -> Callable[[Row], float | None]:
    def read(row: Row) -> float | None:
        value: float | None = getattr(row.figures, name)
        return value

    return read


COLUMNS: tuple[Column[Row], ...] = (
    (_figure("right"), 2, True),
    (_figure("ground"), 2, True),
    (_figure("change"), 2, False),
    (_figure("retinted"), 2, True),
    (_figure("clip_i"), 3, True),
    (_figure("clip_t"), 3, True),
    (_figure("alike"), 3, False),
    (lambda row: row.fixed_loss, 4, False),
    (lambda row: row.seconds, 1, False),
    (lambda row: row.peak_mb, 0, False),
)


def table(rows: Sequence[Row]) -> str:
    """One line a method and count of forwards, in the rows' order."""
    return method_table(HEAD, rows, COLUMNS)


def method_table(head: Sequence[str], rows: Sequence[M], columns: Sequence[Column[M]]) -> str:
    """One line a method and count of forwards, in the rows' order, with columns of one's own."""
    groups: dict[tuple[str, ...], list[M]] = {}
    for row in rows:
        groups.setdefault((row.method, str(row.forwards)), []).append(row)
    return group_table(head, groups, columns)


def group_table(
    head: Sequence[str], groups: Mapping[tuple[str, ...], Sequence[T]], columns: Sequence[Column[T]]
) -> str:
    """One line a group: its names, then a mean over cases for each column; a column that no group has is left out."""
    found = [(*own, *(_cell(group, *column) for column in columns)) for own, group in groups.items()]
    told = [column for column in zip(head, *found, strict=True) if set(column[1:]) != {ABSENT}]
    names, *lines = zip(*told, strict=True)
    return "\n".join(f"| {' | '.join(line)} |" for line in (names, ("---",) * len(names), *lines))


def _cell(group: Sequence[T], read: Callable[[T], float | None], digits: int, with_interval: bool) -> str:
    """The mean over cases; seeds of one case are averaged first, for they are not independent of each other."""
    by_case: dict[str, list[float]] = {}
    for row in group:
        value = read(row)
        if value is not None:
            by_case.setdefault(row.subject, []).append(value)
    if not by_case:
        return ABSENT
    values = [sum(found) / len(found) for found in by_case.values()]
    mean = f"{sum(values) / len(values):.{digits}f}"
    if not with_interval or len(values) < 2:
        return mean
    low, high = interval(values)
    return f"{mean} ({low:.{digits}f}–{high:.{digits}f})"


FIGURES = {"all right": "right", "asked change": "change", "CLIP-I": "clip_i"}
PAIRED_HEAD = ("methods", "forwards", "subjects", *FIGURES)


def by_subject(rows: Sequence[Row], method: str, forwards: int, figure: str) -> dict[str, float]:
    """A figure of every subject that has it, its seeds averaged."""
    found: dict[str, list[float]] = {}
    for row in rows:
        value = getattr(row.figures, figure)
        if (row.method, row.forwards) == (method, forwards) and value is not None:
            found.setdefault(row.subject, []).append(value)
    return {subject: mean(values) for subject, values in found.items()}


def difference(rows: Sequence[Row], pair: tuple[str, str], forwards: int, figure: str) -> list[float]:
    """The first method minus the second on each subject that both have."""
    first, second = (by_subject(rows, method, forwards, figure) for method in pair)
    return [first[subject] - second[subject] for subject in first if subject in second]


def paired_table(rows: Sequence[Row], pairs: Sequence[tuple[str, str]]) -> str:
    """A line a pair and count of forwards that both were measured at: mean differences, 95 % bootstrap intervals.

    Raises:
        BenchmarkError: a pair has no count of forwards in common.
    """
    lines: list[Sequence[str]] = [PAIRED_HEAD, ("---",) * len(PAIRED_HEAD)]
    for pair in pairs:
        counts = sorted({row.forwards for row in rows if row.method == pair[0]})
        shared = [count for count in counts if difference(rows, pair, count, "clip_i")]
        if not shared:
            raise BenchmarkError(f"{pair[0]}:{pair[1]}: no count of forwards has both", field="pairs")
        for count in shared:
            found = [difference(rows, pair, count, figure) for figure in FIGURES.values()]
            subjects = str(len(difference(rows, pair, count, "clip_i")))
            lines.append(
                (" − ".join(pair), str(count), subjects, *(_difference_cell(values) for values in found))
            )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _difference_cell(values: Sequence[float]) -> str:
    if not values:
        return "–"
    low, high = interval(values)
    return f"{mean(values):+.3f} ({low:+.3f} to {high:+.3f})"


def parse_pairs(text: str, methods: Sequence[str]) -> list[tuple[str, str]]:
    """`"a:b,c:d"` → [("a", "b"), ("c", "d")].

    Raises:
        BenchmarkError: a part is no such pair, or names a method that is not among `methods`.
    """
    pairs = []
    for part in filter(None, text.split(",")):
        first, _, second = part.partition(":")
        if not {first, second} <= set(methods):
            allowed = f"allowed: two of --methods with a colon between ({', '.join(methods)})"
            raise BenchmarkError(f"--pairs {part}: {allowed}", field="pairs")
        pairs.append((first, second))
    return pairs
