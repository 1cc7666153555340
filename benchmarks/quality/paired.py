"""`python -m benchmarks.quality.paired`: differences between two methods on the same subjects.

Two means of one table share their subjects, so their intervals overlap more than the difference deserves. Rows are
read from what EmojiBooth has measured in --out; nothing is measured here.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import get_args

from benchmarks.quality.arguments import OUT, print_or_exit
from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.ledger import Ledger
from benchmarks.quality.metrics import interval
from benchmarks.quality.records import Row, parse_row
from benchmarks.quality.subjects import Half, Kind

FIGURES = {"all right": "right", "asked change": "change", "CLIP-I": "clip_i"}
HEAD = ("methods", "forwards", "subjects", *FIGURES)


def by_subject(rows: Sequence[Row], method: str, forwards: int, figure: str) -> dict[str, float]:
    """A figure of every subject that has it, its seeds averaged.

    Raises:
        BenchmarkError: a subject and seed has two rows, of different settings.
    """
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        value = getattr(row.figures, figure)
        if (row.method, row.forwards) != (method, forwards) or value is None:
            continue
        seeds = found.setdefault(row.subject, {})
        if row.seed in seeds:
            raise BenchmarkError(f"{method}, {row.subject}: rows of different settings lie in one --out")
        seeds[row.seed] = value
    return {subject: mean(seeds.values()) for subject, seeds in found.items()}


def difference(rows: Sequence[Row], pair: tuple[str, str], forwards: int, figure: str) -> list[float]:
    """The first method minus the second on each subject that both have."""
    first, second = (by_subject(rows, method, forwards, figure) for method in pair)
    return [first[subject] - second[subject] for subject in first if subject in second]


def table(rows: Sequence[Row], pairs: Sequence[tuple[str, str]]) -> str:
    """A line a pair and count of forwards that both were measured at: mean differences, 95 % bootstrap intervals.

    Raises:
        BenchmarkError: a pair has no subject in common, or rows of different settings.
    """
    lines: list[Sequence[str]] = [HEAD, ("---",) * len(HEAD)]
    for pair in pairs:
        counts = sorted({row.forwards for row in rows if row.method == pair[0]})
        shared = [count for count in counts if difference(rows, pair, count, "clip_i")]
        if not shared:
            raise BenchmarkError(f"{pair[0]}:{pair[1]}: no subject and count of forwards has both")
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


def parse_pair(text: str) -> tuple[str, str]:
    """`"a:b"` → ("a", "b").

    Raises:
        BenchmarkError: it is no such pair.
    """
    first, _, second = text.partition(":")
    if not first or not second:
        raise BenchmarkError(f"{text}: allowed: two methods with a colon between, such as default:paper")
    return first, second


def run(out: Path, kind: str, half: str, pairs: Sequence[str]) -> str:
    """The table of what was measured in `out`."""
    rows = [row for row in Ledger(out / "results.jsonl", parse_row) if (row.kind, row.half) == (kind, half)]
    return table(rows, [parse_pair(pair) for pair in pairs]) + "\n"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.paired",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pairs", nargs="+", help="two methods with a colon between: default:paper")
    parser.add_argument("--kind", default="subjects", choices=get_args(Kind))
    parser.add_argument("--half", default="report", choices=get_args(Half))
    parser.add_argument("--out", type=Path, default=OUT, help="folder of results")
    given = parser.parse_args()
    print_or_exit(lambda: run(given.out, given.kind, given.half, given.pairs))


if __name__ == "__main__":
    main()
