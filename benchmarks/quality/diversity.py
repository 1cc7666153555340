"""`python -m benchmarks.quality.diversity`: how alike many pictures of one prompt are (Tab. S9).

The figure is the mean cosine of two different pictures of one prompt; lower is more diverse. A token that draws
anything but its subject is diverse too, so the share of right pictures stands beside it. One grid a subject: a row a
method. Rows and searches are EmojiBooth's own: what it has measured in --out is not done again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks.quality.cli import (
    add_methods,
    at_least,
    command,
    describe_run,
    embedded_model,
    instruments,
    options,
    print_or_exit,
    progress,
)
from benchmarks.quality.learning.methods import ANCHORS, METHODS
from benchmarks.quality.report.grids import write_grid
from benchmarks.quality.report.rows import Row
from benchmarks.quality.report.tables import method_table
from benchmarks.quality.run import Booth, Options
from zoodip_core.files import write_atomically

DEFAULT_METHODS = "initializer,caption,real,default,paper"
HEAD = ("method", "forwards", "alike", "all right", "ground", "CLIP-I")


def table(rows: Sequence[Row]) -> str:
    """A line a method and count of forwards, in the rows' order."""
    return method_table(
        HEAD,
        rows,
        [
            (lambda row: row.figures.alike, 3, True),
            (lambda row: row.figures.right, 2, True),
            (lambda row: row.figures.ground, 2, False),
            (lambda row: row.figures.clip_i, 3, False),
        ],
    )


def write_case_grid(booth: Booth, index: int, rows: Sequence[Row]) -> None:
    """A row a method and count of forwards: the first reference, then the kept pictures.

    Raises:
        StorageError: the file could not be written.
    """
    case, chosen = booth.stage.cases[index], booth.stage.selection
    found = [
        booth.shown(f"{row.method}, {row.forwards} forwards: alike {row.figures.alike:.3f}", index, row)
        for row in rows
        if row.subject == case.name and row.seed == 0
    ]
    write_grid(chosen.out / f"diversity-{chosen.kind}-{case.name.replace(' ', '-')}.png", found)


def run(asked: Options) -> str:
    """Measure what is missing, write the grids, and give the table."""
    entry, chosen = embedded_model(), asked.selection
    booth = Booth(entry, asked, instruments(entry), progress)
    rows = [row for method in booth.methods for row in booth.rows(method)]
    for index in range(len(booth.stage.cases)):
        write_case_grid(booth, index, rows)
    text = f"{describe_run(asked, len(booth.stage.cases), entry)}\n\n{table(rows)}\n"
    write_atomically(chosen.out / f"diversity-{chosen.kind}.md", text.encode())
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = command("benchmarks.quality.diversity", __doc__, subjects=4, prompts=1, pictures=50)
    about = f"names with commas between: {', '.join((*ANCHORS, *METHODS))}"
    add_methods(parser, methods=DEFAULT_METHODS, seeds=1, forwards="9000", about=about)
    given = parser.parse_args(arguments)
    print_or_exit(lambda: run(_options(given)))


def _options(given: argparse.Namespace) -> Options:
    """The options, with every number checked.

    Raises:
        BenchmarkError: a number that is none, or too small: one picture alone is like nothing.
        InvalidSettingsError: --set without NAME=VALUE.
    """
    at_least(2, given.pictures, "pictures")
    return options(given)


if __name__ == "__main__":
    main()
