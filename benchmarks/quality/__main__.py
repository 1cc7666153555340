"""`python -m benchmarks.quality`: EmojiBooth, one table of methods that learn a token, on held-out subjects.

Rows go to results.jsonl as they are measured; the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks.quality.cases.prompts import PROMPTS
from benchmarks.quality.cli import (
    add_methods,
    command,
    describe_run,
    embedded_model,
    instruments,
    options,
    print_or_exit,
    progress,
)
from benchmarks.quality.learning.methods import ANCHORS, METHODS
from benchmarks.quality.report.tables import paired_table, parse_pairs, table
from benchmarks.quality.run import Booth, Options
from zoodip_core.files import write_atomically

DEFAULT_METHODS = "initializer,caption,real,default,paper,paper-puts,paper-sg,paper-neither"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    given = _parser().parse_args(arguments)

    def made() -> str:
        asked = options(given)
        return run(asked, parse_pairs(given.pairs, asked.methods))

    print_or_exit(made)


def run(asked: Options, pairs: Sequence[tuple[str, str]] = ()) -> str:
    """Measure what is missing; the table, which is written to the folder too."""
    entry, chosen = embedded_model(), asked.selection
    booth = Booth(entry, asked, instruments(entry), progress)
    rows = booth.run()
    text = f"{describe_run(asked, len(booth.stage.cases), entry)}\n\n{table(rows)}\n"
    if pairs:
        text += f"\nOn the same {chosen.kind}:\n\n{paired_table(rows, pairs)}\n"
    write_atomically(chosen.out / f"table-{chosen.kind}.md", text.encode())
    return text


def _parser() -> argparse.ArgumentParser:
    abouts = [*ANCHORS.items(), *((method.name, method.about) for method in METHODS.values())]
    parser = command(
        "benchmarks.quality",
        __doc__,
        subjects=None,
        prompts=PROMPTS,
        pictures=5,
        epilog="\n".join(f"{name:14} {about}" for name, about in abouts),
    )
    about = "names with commas between (see below)"
    add_methods(parser, methods=DEFAULT_METHODS, seeds=2, forwards="3000,9000", about=about)
    parser.add_argument(
        "--pairs",
        default="",
        help="methods to compare on the same subjects, such as default:paper,paper:paper-sg",
    )
    return parser


if __name__ == "__main__":
    main()
