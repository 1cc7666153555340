"""`python -m benchmarks.quality`: EmojiBooth, one table of methods that learn a token, on held-out subjects.

Rows are stored in results.jsonl as they are measured. The same command continues after an interruption.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks.quality.cases.prompts import PROMPTS
from benchmarks.quality.cli import (
    add_methods,
    describe_run,
    embedded_model,
    load_instruments,
    log_progress,
    make_parser,
    parse_options,
    print_or_exit,
)
from benchmarks.quality.learning.methods import ANCHORS, METHODS
from benchmarks.quality.report.tables import paired_table, parse_pairs, table
from benchmarks.quality.run import BenchmarkRun, RunOptions
from zoodip_core.files import write_atomically

DEFAULT_METHODS = "initializer,caption,real,calibrated,full,paper,paper-puts,paper-sg,paper-neither"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    given = _parser().parse_args(arguments)

    def make_text() -> str:
        options = parse_options(given)
        return run(options, parse_pairs(given.pairs, options.methods))

    print_or_exit(make_text)


def run(options: RunOptions, pairs: Sequence[tuple[str, str]] = ()) -> str:
    """Measure the missing rows; return the table and write it to the folder."""
    chosen = options.selection
    entry = embedded_model(chosen.calibration)
    benchmark = BenchmarkRun(entry, options, load_instruments(entry), log_progress)
    rows = benchmark.run()
    text = f"{describe_run(options, len(benchmark.setup.cases), entry)}\n\n{table(rows)}\n"
    if pairs:
        text += f"\nOn the same {chosen.kind}:\n\n{paired_table(rows, pairs)}\n"
    write_atomically(chosen.out / f"table-{chosen.kind}.md", text.encode())
    return text


def _parser() -> argparse.ArgumentParser:
    abouts = [*ANCHORS.items(), *((method.name, method.about) for method in METHODS.values())]
    parser = make_parser(
        "benchmarks.quality",
        __doc__,
        subjects=None,
        prompts=PROMPTS,
        pictures=5,
        epilog="\n".join(f"{name:14} {about}" for name, about in abouts),
    )
    about = "names separated by commas (see below)"
    add_methods(parser, methods=DEFAULT_METHODS, seeds=2, forwards="3000,9000", about=about)
    parser.add_argument(
        "--pairs",
        default="",
        help="methods to compare on the same subjects, such as full:paper,paper:paper-sg",
    )
    return parser


if __name__ == "__main__":
    main()
