"""Differences between two methods on the same subjects.

Two means of one table share their subjects, so their intervals overlap more than the difference deserves.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.metrics import interval
from benchmarks.quality.records import Row

FIGURES = {"all right": "right", "asked change": "change", "CLIP-I": "clip_i"}
HEAD = ("methods", "forwards", "subjects", *FIGURES)


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


def table(rows: Sequence[Row], pairs: Sequence[tuple[str, str]]) -> str:
    """A line a pair and count of forwards that both were measured at: mean differences, 95 % bootstrap intervals.

    Raises:
        BenchmarkError: a pair has no count of forwards in common.
    """
    lines: list[Sequence[str]] = [HEAD, ("---",) * len(HEAD)]
    for pair in pairs:
        counts = sorted({row.forwards for row in rows if row.method == pair[0]})
        shared = [count for count in counts if difference(rows, pair, count, "clip_i")]
        if not shared:
            raise BenchmarkError(f"{pair[0]}:{pair[1]}: no count of forwards has both", field="pairs")
        for count in shared:
            found = [difference(rows, pair, count, figure) for figure in FIGURES.values()]
            subjects = str(len(difference(rows, pair, count, "clip_i")))
            lines.append((" − ".join(pair), str(count), subjects, *(_cell(values) for values in found)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(values: Sequence[float]) -> str:
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
