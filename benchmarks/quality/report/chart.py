"""`python -m benchmarks.quality.report.chart`: attribute accuracy against U-Net evaluations, from stored rows.

Draws the subjects of the test split, with 95 % bootstrap intervals; anchors are horizontal lines. Uses the rows that
have a recolor accuracy, and the numbers of evaluations at which every subject is measured. Needs no model. The same
rows give the same bytes. Needs matplotlib.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.quality.cli import print_or_exit
from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.metrics import interval
from benchmarks.quality.report.rows import Row, RowFile, parse_row
from benchmarks.quality.report.tables import case_means
from zoodip_core.files import write_atomically

DODGE = 1.03  # factor between neighboring methods at the same number of evaluations
STYLE: Any = {"svg.hashsalt": "quality", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11}


@dataclass(frozen=True)
class Series:
    """How one method is drawn."""

    method: str
    label: str
    color: str
    marker: str


SERIES = (
    Series("ti-0.02", "Textual Inversion, backpropagation, fp32", "#000000", "s"),
    Series("ti-0.04", "the same with a rate for short searches", "#777777", "s"),
    Series("ti-predicted-0.04", "the same from the predicted token", "#bbbbbb", "s"),
    Series("calibrated", "calibrated space (forward passes, INT8)", "#56b4e9", "P"),
    Series("gf-ti", "CMA-ES in the vocabulary's directions (INT8)", "#882255", "*"),
    Series("full", "full space (forward passes, INT8)", "#0072b2", "o"),
    Series("script", "settings of the published script (INT8)", "#f0c000", "p"),
    Series("paper-neither", "paper without SG and PUTS", "#009e73", "v"),
    Series("paper-puts", "paper without SG", "#e69f00", "^"),
    Series("paper", "paper: SG and PUTS", "#d55e00", "D"),
    Series("paper-sg", "paper without PUTS", "#cc79a7", "X"),
)
ANCHOR_LINES = {
    "caption": "subject described in the model's own words",
    "initializer": "initializer, before any learning",
}


@dataclass(frozen=True)
class Point:
    """The mean over subjects at one number of evaluations, with its interval."""

    forwards: int
    mean: float
    low: float
    high: float


def select_rows(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of the test split's subjects that have both accuracies.

    Raises:
        BenchmarkError: there are none, or a method has two measurements of a subject at the same point.
    """
    found: dict[tuple[str, str, int, int], Row] = {}
    for row in rows:
        figures, key = row.figures, (row.method, row.subject, row.seed, row.forwards)
        if (row.kind, row.split) != ("subjects", "test") or None in (
            figures.attribute_accuracy,
            figures.recolor_accuracy,
        ):
            continue
        if key in found:
            method, subject, seed, forwards = key
            got = f"two rows of {method}, {subject}, seed {seed}, {forwards} evaluations"
            raise BenchmarkError.mismatch("--rows", got=got, expected="rows of one protocol")
        found[key] = row
    if not found:
        raise BenchmarkError.mismatch(
            "--rows", got="no matching row", expected="measured rows of test subjects with recolor accuracy"
        )
    return list(found.values())


def points(rows: Sequence[Row]) -> dict[str, list[Point]]:
    """Return the points of each method, at the numbers of evaluations where every subject is measured."""
    subjects = {row.subject for row in rows}
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.method, row.forwards), []).append(row)
    found: dict[str, list[Point]] = {}
    for (method, forwards), group in sorted(groups.items(), key=lambda item: item[0]):
        if {row.subject for row in group} == subjects:
            values = case_means(group, lambda row: row.figures.attribute_accuracy)
            point = Point(forwards, sum(values) / len(values), *interval(values))
            found.setdefault(method, []).append(point)
    return found


def draw(found: Mapping[str, Sequence[Point]], subjects: int) -> Figure:
    """Return the chart."""
    figure = Figure(figsize=(8.4, 5.2), layout="constrained")
    axes = figure.add_subplot()
    drawn = [series for series in SERIES if series.method in found]
    for index, series in enumerate(drawn):
        _draw_series(axes, series, found[series.method], DODGE ** (index - (len(drawn) - 1) / 2))
    ticks = sorted({point.forwards for series in drawn for point in found[series.method]})
    _label_axes(axes, ticks, subjects)
    for method, label in ANCHOR_LINES.items():
        if method in found:
            _draw_anchor(axes, label, found[method][0].mean)
    if drawn:
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _draw_series(axes: Axes, series: Series, found: Sequence[Point], dodge: float) -> None:
    means = [point.mean for point in found]
    axes.errorbar(
        [point.forwards * dodge for point in found],
        means,
        yerr=[[max(0, p.mean - p.low) for p in found], [max(0, p.high - p.mean) for p in found]],
        label=series.label,
        color=series.color,
        marker=series.marker,
        markersize=7,
        linewidth=1.2,
        capsize=3,
    )


def _draw_anchor(axes: Axes, label: str, mean: float) -> None:
    axes.axhline(mean, color="#666666", linestyle=(0, (4, 3)), linewidth=1)
    above = mean < 0.5
    axes.annotate(
        label,
        (0.5, mean),
        xycoords=("axes fraction", "data"),
        xytext=(0, 4 if above else 5),
        textcoords="offset points",
        ha="center",
        color="#555555",
        fontsize=9.5,
    )


def _label_axes(axes: Axes, ticks: Sequence[int], subjects: int) -> None:
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_xticks([], minor=True)
    if ticks:
        axes.set_xlim(ticks[0] / 1.35, ticks[-1] * 1.35)
    axes.set_ylim(-0.04, 1.1)
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.set_xlabel("U-Net evaluations for each subject (NFE, log scale)")
    axes.set_ylabel("attribute accuracy")
    axes.set_title(f"Attribute accuracy on {subjects} held-out subjects, with 95 % intervals", fontsize=12)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def render(rows_path: Path, out: Path) -> str:
    """Draw the chart of a row file; return a line that reports the result.

    Args:
        rows_path: JSON lines of EmojiBooth.
        out: file to write; its suffix selects the format, .svg or .png.

    Raises:
        BenchmarkError: the file has no matching rows, or a line is damaged.
        StorageError: the chart could not be written.
    """
    if out.suffix not in (".svg", ".png"):
        raise BenchmarkError.mismatch("--out", got=out, expected="a name that ends in .svg or .png")
    rows = select_rows(RowFile(rows_path, parse_row).values())
    subjects = len({row.subject for row in rows})
    buffer = BytesIO()
    metadata = {"Date": None} if out.suffix == ".svg" else {"Software": None}
    with mpl.rc_context(STYLE):
        draw(points(rows), subjects).savefig(
            buffer, format=out.suffix.removeprefix("."), dpi=150, metadata=metadata
        )
    write_atomically(out, buffer.getvalue())
    return f"{out}: {len(rows)} rows of {subjects} subjects\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.report.chart",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rows", type=Path, required=True, help="file of rows, such as docs/fewer-forwards.jsonl"
    )
    parser.add_argument("--out", type=Path, required=True, help="chart to write, .svg or .png")
    given = parser.parse_args(arguments)
    print_or_exit(lambda: render(given.rows, given.out))


if __name__ == "__main__":
    main()
