"""`python -m benchmarks.quality.diversity`: the similarity of many pictures of one prompt (Tab. S9).

Intra-prompt similarity is the mean cosine of two different pictures of a prompt; lower is more diverse. A token that
does not draw its subject is diverse too, so compare attribute accuracy. Writes one grid for each subject: one row
for each method. Rows and searches in --out that EmojiBooth has measured are reused.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks.quality.cli import (
    add_methods,
    at_least,
    describe_run,
    embedded_model,
    load_instruments,
    log_progress,
    make_parser,
    parse_options,
    print_or_exit,
)
from benchmarks.quality.learning.methods import ANCHORS, METHODS
from benchmarks.quality.report.results import write_grid
from benchmarks.quality.report.rows import Row
from benchmarks.quality.report.tables import method_table
from benchmarks.quality.run import BenchmarkRun, RunOptions
from zoodip_core.files import write_atomically

DEFAULT_METHODS = "initializer,caption,real,calibrated,full,paper"
HEAD = ("method", "NFE", "intra-prompt similarity", "attribute accuracy", "background accuracy", "CLIP-I")


def table(rows: Sequence[Row]) -> str:
    """Return one line for each method and number of evaluations, in the rows' order."""
    return method_table(
        HEAD,
        rows,
        [
            (lambda row: row.figures.intra_prompt_similarity, 3, True),
            (lambda row: row.figures.attribute_accuracy, 2, True),
            (lambda row: row.figures.background_accuracy, 2, False),
            (lambda row: row.figures.clip_i, 3, False),
        ],
    )


def write_case_grid(benchmark: BenchmarkRun, index: int, rows: Sequence[Row]) -> None:
    """Write one row for each method and number of evaluations: the first reference, then the stored pictures.

    Raises:
        StorageError: the file could not be written.
    """
    case, chosen = benchmark.setup.cases[index], benchmark.setup.selection
    found = [
        benchmark.grid_row(_title(row), index, row)
        for row in rows
        if row.subject == case.name and row.seed == 0
    ]
    write_grid(chosen.out / f"diversity-{chosen.kind}-{case.name.replace(' ', '-')}.png", found)


def _title(row: Row) -> str:
    return f"{row.method}, {row.forwards} NFE: similarity {row.figures.intra_prompt_similarity:.3f}"


def run(options: RunOptions) -> str:
    """Measure the missing rows, write the grids, and return the table."""
    chosen = options.selection
    entry = embedded_model(chosen.calibration)
    benchmark = BenchmarkRun(entry, options, load_instruments(entry), log_progress)
    rows = [row for method in benchmark.methods for row in benchmark.rows(method)]
    for index in range(len(benchmark.setup.cases)):
        write_case_grid(benchmark, index, rows)
    text = f"{describe_run(options, len(benchmark.setup.cases), entry)}\n\n{table(rows)}\n"
    write_atomically(chosen.out / f"diversity-{chosen.kind}.md", text.encode())
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = make_parser("benchmarks.quality.diversity", __doc__, subjects=4, prompts=1, pictures=50)
    about = f"names separated by commas: {', '.join((*ANCHORS, *METHODS))}"
    add_methods(parser, methods=DEFAULT_METHODS, seeds=1, forwards="9000", about=about)
    given = parser.parse_args(arguments)
    print_or_exit(lambda: run(_options(given)))


def _options(given: argparse.Namespace) -> RunOptions:
    """Return the options of the run.

    Raises:
        BenchmarkError: a number is malformed or too small; a single picture has no similarity.
        InvalidSettingsError: --set is not NAME=VALUE.
    """
    at_least(2, given.pictures, "pictures")
    return parse_options(given)


if __name__ == "__main__":
    main()
