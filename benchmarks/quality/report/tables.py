"""Markdown tables of rows: means over cases with bootstrap intervals, and differences between methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from typing import Protocol, TypeVar

from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.metrics import interval
from benchmarks.quality.report.rows import Row

HEAD = (
    "method",
    "NFE",
    "attribute accuracy",
    "background accuracy",
    "edit compliance",
    "recolor accuracy",
    "CLIP-I",
    "CLIP-T",
    "intra-prompt similarity",
    "validation loss",
    "s/case",
    "peak, MB",
)
ABSENT = "–"
PAIRED_FIGURES = {
    "attribute accuracy": "attribute_accuracy",
    "edit compliance": "edit_compliance",
    "CLIP-I": "clip_i",
}
PAIRED_HEAD = ("methods", "NFE", "subjects", *PAIRED_FIGURES)


class CaseRow(Protocol):
    """A row of one case."""

    @property
    def subject(self) -> str:
        """Return the name of the case."""


class MethodRow(CaseRow, Protocol):
    """A row of one case and one method."""

    @property
    def method(self) -> str:
        """Return the name of the method."""

    @property
    def forwards(self) -> int:
        """Return the U-Net evaluations of one case."""


T = TypeVar("T", bound=CaseRow)
M = TypeVar("M", bound=MethodRow)
Column = tuple[Callable[[T], float | None], int, bool]  # reader, digits, with interval


def _figure(name: str) -> Callable[[Row], float | None]:
    def read(row: Row) -> float | None:
        value: float | None = getattr(row.figures, name)
        return value

    return read


COLUMNS: tuple[Column[Row], ...] = (
    (_figure("attribute_accuracy"), 2, True),
    (_figure("background_accuracy"), 2, True),
    (_figure("edit_compliance"), 2, False),
    (_figure("recolor_accuracy"), 2, True),
    (_figure("clip_i"), 3, True),
    (_figure("clip_t"), 3, True),
    (_figure("intra_prompt_similarity"), 3, False),
    (lambda row: row.fixed_loss, 4, False),
    (lambda row: row.seconds, 1, False),
    (lambda row: row.peak_mb, 0, False),
)


def table(rows: Sequence[Row]) -> str:
    """Return the standard table: one line for each method and number of evaluations, in the rows' order."""
    return method_table(HEAD, rows, COLUMNS)


def method_table(head: Sequence[str], rows: Sequence[M], columns: Sequence[Column[M]]) -> str:
    """Return a table with one line for each method and number of evaluations, in the rows' order."""
    groups: dict[tuple[str, ...], list[M]] = {}
    for row in rows:
        groups.setdefault((row.method, str(row.forwards)), []).append(row)
    return group_table(head, groups, columns)


def group_table(
    head: Sequence[str], groups: Mapping[tuple[str, ...], Sequence[T]], columns: Sequence[Column[T]]
) -> str:
    """Return a table with one line for each group: its names, then a mean over cases for each column.

    Leaves out a column that is empty in all groups.
    """
    found = [(*names, *(_cell(group, *column) for column in columns)) for names, group in groups.items()]
    filled = [column for column in zip(head, *found, strict=True) if set(column[1:]) != {ABSENT}]
    names, *lines = zip(*filled, strict=True)
    return markdown([names, *lines])


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose first line is the head."""
    head, *body = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ("---",) * len(head), *body))


def case_means(group: Sequence[T], read: Callable[[T], float | None]) -> list[float]:
    """Return one mean for each case that has the figure.

    Averages the seeds of a case first, because they are not independent of each other.
    """
    by_case: dict[str, list[float]] = {}
    for row in group:
        value = read(row)
        if value is not None:
            by_case.setdefault(row.subject, []).append(value)
    return [sum(found) / len(found) for found in by_case.values()]


def _cell(group: Sequence[T], read: Callable[[T], float | None], digits: int, with_interval: bool) -> str:
    values = case_means(group, read)
    if not values:
        return ABSENT
    average = f"{sum(values) / len(values):.{digits}f}"
    if not with_interval or len(values) < 2:
        return average
    low, high = interval(values)
    return f"{average} ({low:.{digits}f}–{high:.{digits}f})"


def by_subject(rows: Sequence[Row], method: str, forwards: int, figure: str) -> dict[str, float]:
    """Return a figure of every subject that has it, averaged over seeds."""
    found: dict[str, list[float]] = {}
    for row in rows:
        value = getattr(row.figures, figure)
        if (row.method, row.forwards) == (method, forwards) and value is not None:
            found.setdefault(row.subject, []).append(value)
    return {subject: mean(values) for subject, values in found.items()}


def difference(rows: Sequence[Row], pair: tuple[str, str], forwards: int, figure: str) -> list[float]:
    """Return the first method minus the second, for each subject that both have."""
    first, second = (by_subject(rows, method, forwards, figure) for method in pair)
    return [first[subject] - second[subject] for subject in first if subject in second]


def paired_table(rows: Sequence[Row], pairs: Sequence[tuple[str, str]]) -> str:
    """Return mean differences on the same subjects, with 95 % bootstrap intervals.

    Two means of one table share their subjects, so their own intervals overlap more than the difference warrants.

    Raises:
        BenchmarkError: the two methods of a pair share no number of evaluations.
    """
    lines: list[Sequence[str]] = [PAIRED_HEAD]
    for pair in pairs:
        counts = sorted({row.forwards for row in rows if row.method == pair[0]})
        shared = [count for count in counts if difference(rows, pair, count, "clip_i")]
        if not shared:
            raise BenchmarkError(f"--pairs: {':'.join(pair)} share no number of evaluations", field="pairs")
        for count in shared:
            found = [difference(rows, pair, count, figure) for figure in PAIRED_FIGURES.values()]
            subjects = str(len(difference(rows, pair, count, "clip_i")))
            cells = (_difference_cell(values) for values in found)
            lines.append((" − ".join(pair), str(count), subjects, *cells))
    return markdown(lines)


def _difference_cell(values: Sequence[float]) -> str:
    if not values:
        return ABSENT
    low, high = interval(values)
    return f"{mean(values):+.3f} ({low:+.3f} to {high:+.3f})"


def parse_pairs(text: str, methods: Sequence[str]) -> list[tuple[str, str]]:
    """Convert `"a:b,c:d"` to [("a", "b"), ("c", "d")].

    Raises:
        BenchmarkError: a part is not a pair of `methods`.
    """
    pairs = []
    for part in filter(None, text.split(",")):
        first, _, second = part.partition(":")
        if not {first, second} <= set(methods):
            expected = f"two of --methods separated by a colon ({', '.join(methods)})"
            raise BenchmarkError.mismatch("--pairs", got=part, expected=expected)
        pairs.append((first, second))
    return pairs
