"""`python -m benchmarks.quality.along`: the same seeds along the search, with and without SG and PUTS (Fig. S5).

The four arms share start, references, captions and the seeds of the pictures. One grid a subject: a row an arm, a
column a count of forwards. SG begins after τ steps, so before that an arm with it is the one without it. Rows and
searches are EmojiBooth's own: what it has measured in --out is not done again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks.quality.cases.subjects import Case
from benchmarks.quality.cli import (
    command,
    describe,
    embedded_model,
    instruments,
    print_or_exit,
    progress,
    selection,
    whole_numbers,
)
from benchmarks.quality.learning.methods import METHODS, check_methods
from benchmarks.quality.report.grids import Shown, write_grid
from benchmarks.quality.report.rows import Row
from benchmarks.quality.run import Booth, Options
from zoodip_core.files import write_atomically

ARMS = ("paper", "paper-puts", "paper-sg", "paper-neither")
START = "initializer"  # where all arms are before their first forward

Cells = dict[tuple[str, str, int], Row]  # arm, subject, forwards → what was measured there


def measure_cells(booth: Booth, arms: Sequence[str]) -> Cells:
    """All cells; every arm begins at the initializer's."""
    starts = booth.rows(START)
    cells = {(arm, row.subject, 0): row for arm in arms for row in starts}
    cells |= {(arm, row.subject, row.forwards): row for arm in arms for row in booth.rows(arm)}
    return cells


def write_case_grid(booth: Booth, case: Case, arms: Sequence[str], cells: Cells) -> None:
    """A row an arm: the first reference, then the first picture of the first prompt after each count.

    Raises:
        StorageError: the file could not be written.
    """
    columns = counts(cells)
    labels = [f"{count} forwards" for count in columns]
    found = []
    for arm in arms:
        pictures = booth.results.shown([cells[arm, case.name, count] for count in columns], 1)
        found.append(Shown(f"{arm}: {METHODS[arm].about}", case, pictures, labels))
    chosen = booth.stage.selection
    write_grid(chosen.out / f"along-{chosen.kind}-{case.name.replace(' ', '-')}.png", found)


def counts(cells: Cells) -> list[int]:
    """The counts of forwards, the smallest first."""
    return sorted({count for _, _, count in cells})


def table(cells: Cells) -> str:
    """A line a subject and arm, then the arms' means; in each cell "all right" and the fixed-set loss."""
    columns = counts(cells)
    head = ["subject", "arm", *(f"{count} forwards" for count in columns)]
    subjects = list(dict.fromkeys(subject for _, subject, _ in cells))
    lines = [head, ["---"] * len(head)]
    groups = {one: [one] for one in subjects} | ({"mean": subjects} if len(subjects) > 1 else {})
    for name, group in groups.items():
        for arm in dict.fromkeys(arm for arm, _, _ in cells):
            found = [[cells[arm, one, count] for one in group] for count in columns]
            lines.append([name, arm, *(_cell(rows) for rows in found)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(rows: Sequence[Row]) -> str:
    right = [row.figures.right for row in rows if row.figures.right is not None]
    losses = [row.fixed_loss for row in rows if row.fixed_loss is not None]
    shares = f"{sum(right) / len(right):.2f}" if right else "–"
    return f"{shares} · {sum(losses) / len(losses):.4f}" if losses else f"{shares} · –"


def run(options: Options) -> str:
    """Measure what is missing, write the grids, and give the table."""
    entry, chosen = embedded_model(), options.selection
    booth = Booth(entry, options, instruments(entry), progress)
    cells = measure_cells(booth, booth.methods)
    for case in booth.stage.cases:
        write_case_grid(booth, case, booth.methods, cells)
    text = (
        f"{describe(chosen, len(booth.stage.cases), entry)}; search seed 0; in each cell the share of pictures that "
        f"are all right, and the loss on the fixed set.\n\n{table(cells)}\n"
    )
    write_atomically(chosen.out / f"along-{chosen.kind}.md", text.encode())
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = command("benchmarks.quality.along", __doc__, subjects=4, prompts=8, pictures=2)
    add = parser.add_argument
    add("--arms", default=",".join(ARMS), help="methods with commas between")
    add("--forwards", default="300,900,3000,9000", help="of one case, with commas between")
    given = parser.parse_args(arguments)
    print_or_exit(lambda: run(_options(given)))


def _options(given: argparse.Namespace) -> Options:
    return Options(
        selection(given),
        methods=check_methods(given.arms.split(","), METHODS, "arms"),
        seeds=1,
        forwards=whole_numbers(given.forwards, "forwards"),
    )


if __name__ == "__main__":
    main()
