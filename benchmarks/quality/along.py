"""`python -m benchmarks.quality.along`: the same seeds along a search, with and without SG and PUTS (Fig. S5).

The four arms share initializer, references, captions and picture seeds. Writes one grid for each subject: one row for
each arm, one column for each number of U-Net evaluations (NFE). SG starts after τ steps; until then an arm with SG
equals the arm without it. Rows and searches in --out that EmojiBooth has measured are reused.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks.quality.cases.subjects import Case
from benchmarks.quality.cli import (
    describe,
    embedded_model,
    load_instruments,
    log_progress,
    make_parser,
    parse_selection,
    print_or_exit,
    whole_numbers,
)
from benchmarks.quality.learning.methods import METHODS, check_methods
from benchmarks.quality.report.results import GridRowSpec, write_grid
from benchmarks.quality.report.rows import Row
from benchmarks.quality.report.tables import ABSENT, markdown
from benchmarks.quality.run import BenchmarkRun, RunOptions
from zoodip_core.files import write_atomically

ARMS = ("paper", "paper-puts", "paper-sg", "paper-neither")
START = "initializer"  # what every arm draws before its first evaluation

Cells = dict[tuple[str, str, int], Row]  # by arm, subject and number of evaluations


def measure_cells(benchmark: BenchmarkRun, arms: Sequence[str]) -> Cells:
    """Return all cells; every arm starts with the initializer's."""
    starts = benchmark.rows(START)
    cells = {(arm, row.subject, 0): row for arm in arms for row in starts}
    cells |= {(arm, row.subject, row.forwards): row for arm in arms for row in benchmark.rows(arm)}
    return cells


def write_case_grid(benchmark: BenchmarkRun, case: Case, arms: Sequence[str], cells: Cells) -> None:
    """Write one row for each arm: the first reference, then the first picture after each number of evaluations.

    Raises:
        StorageError: the file could not be written.
    """
    columns = counts(cells)
    labels = [f"{count} NFE" for count in columns]
    found = []
    for arm in arms:
        pictures = benchmark.results.shown([cells[arm, case.name, count] for count in columns], 1)
        found.append(GridRowSpec(f"{arm}: {METHODS[arm].about}", case, pictures, labels))
    chosen = benchmark.setup.selection
    write_grid(chosen.out / f"along-{chosen.kind}-{case.name.replace(' ', '-')}.png", found)


def counts(cells: Cells) -> list[int]:
    """Return the numbers of evaluations in ascending order."""
    return sorted({count for _, _, count in cells})


def table(cells: Cells) -> str:
    """Return one line for each subject and arm, then the means of the arms.

    Each cell shows attribute accuracy and validation loss.
    """
    columns = counts(cells)
    lines = [["subject", "arm", *(f"{count} NFE" for count in columns)]]
    subjects = list(dict.fromkeys(subject for _, subject, _ in cells))
    groups = {one: [one] for one in subjects} | ({"mean": subjects} if len(subjects) > 1 else {})
    for name, group in groups.items():
        for arm in dict.fromkeys(arm for arm, _, _ in cells):
            found = [[cells[arm, one, count] for one in group] for count in columns]
            lines.append([name, arm, *(_cell(rows) for rows in found)])
    return markdown(lines)


def _cell(rows: Sequence[Row]) -> str:
    accuracies = [row.figures.attribute_accuracy for row in rows]
    right = [value for value in accuracies if value is not None]
    losses = [row.fixed_loss for row in rows if row.fixed_loss is not None]
    accuracy = f"{sum(right) / len(right):.2f}" if right else ABSENT
    loss = f"{sum(losses) / len(losses):.4f}" if losses else ABSENT
    return f"{accuracy} · {loss}"


def run(options: RunOptions) -> str:
    """Measure the missing rows, write the grids, and return the table."""
    chosen = options.selection
    entry = embedded_model(chosen.calibration)
    benchmark = BenchmarkRun(entry, options, load_instruments(entry), log_progress)
    cells = measure_cells(benchmark, benchmark.methods)
    for case in benchmark.setup.cases:
        write_case_grid(benchmark, case, benchmark.methods, cells)
    text = (
        f"{describe(chosen, len(benchmark.setup.cases), entry)}; search seed 0; each cell shows attribute accuracy "
        f"and validation loss.\n\n{table(cells)}\n"
    )
    write_atomically(chosen.out / f"along-{chosen.kind}.md", text.encode())
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = make_parser("benchmarks.quality.along", __doc__, subjects=4, prompts=8, pictures=2)
    add = parser.add_argument
    add("--arms", default=",".join(ARMS), help="methods separated by commas")
    add(
        "--forwards", default="300,900,3000,9000", help="U-Net evaluations for each case, separated by commas"
    )
    given = parser.parse_args(arguments)
    print_or_exit(lambda: run(_options(given)))


def _options(given: argparse.Namespace) -> RunOptions:
    return RunOptions(
        parse_selection(given),
        methods=check_methods(given.arms.split(","), METHODS, "arms"),
        seeds=1,
        forwards=whole_numbers(given.forwards, "forwards"),
    )


if __name__ == "__main__":
    main()
