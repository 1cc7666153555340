"""`python -m benchmarks.quality.sweep`: the settings of a method, changed row by row, on the validation split.

The paper tunes T_L, T_U, μ, η and n for every base model; this command does it for the embedded one. The validation
set is the same for all rows, whichever timesteps a search uses.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.quality.cli import (
    add_seed_per_case,
    at_least,
    describe,
    describe_seeds,
    embedded_model,
    load_instruments,
    log_progress,
    make_parser,
    parse_selection,
    print_or_exit,
    whole_numbers,
)
from benchmarks.quality.learning.methods import FORWARD_METHODS, check_methods, check_plans
from benchmarks.quality.report.tables import paired_table, table
from benchmarks.quality.run import BenchmarkRun, RunOptions
from zoodip_core.cli.options import parse_assignments
from zoodip_core.files import write_atomically

VARIATIONS: tuple[Mapping[str, Any], ...] = (
    {},
    *(
        {"t_low": low, "t_high": high}
        for low, high in ((0, 500), (0, 1000), (100, 950), (300, 900), (700, 1000))
    ),
    *({"mu": mu} for mu in (1e-4, 1e-2, 1e-1)),
    *({"learning_rate": rate} for rate in (2.5e-3, 1e-2, 2e-2, 4e-2)),
    *({"n": n} for n in (1, 4, 8)),
    {"adam_eps": 1e-8},
)


@dataclass(frozen=True)
class Sweep:
    """The method, its variations, and the options of each run."""

    method: str
    options: RunOptions
    variations: Sequence[Mapping[str, Any]] = VARIATIONS


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    given = _parser().parse_args(arguments)
    print_or_exit(lambda: run(_sweep(given)))


def run(sweep: Sweep) -> str:
    """Measure the missing rows; return the table and write it to the folder.

    Raises:
        BenchmarkError: the method takes no changes, or a number is out of range.
        InvalidSettingsError: a setting is unknown or not allowed.
    """
    check_methods([sweep.method], FORWARD_METHODS, "method")
    chosen, rows = sweep.options.selection, []
    entry = embedded_model(chosen.calibration)
    changes = [chosen.changes | dict(variation) for variation in sweep.variations]
    for changed in changes:  # validate all before the first search
        check_plans(sweep.options.methods, entry, forwards=sweep.options.forwards, changes=changed)
    tools = load_instruments(entry)
    for variation, changed in zip(sweep.variations, changes, strict=True):
        varied = replace(sweep.options, selection=replace(chosen, changes=changed))
        found = BenchmarkRun(entry, varied, tools, log_progress).run()
        rows += [replace(row, method=label(sweep.method, variation)) for row in found]
    head = describe(chosen, len({row.subject for row in rows}), entry)
    text = f"{head}; {describe_seeds(sweep.options)}; each row names its changes.\n\n{table(rows)}\n"
    pairs = [(label(sweep.method, variation), sweep.method) for variation in sweep.variations if variation]
    text += f"\nOn the same {chosen.kind}:\n\n{paired_table(rows, pairs)}\n"
    write_atomically(chosen.out / f"sweep-{sweep.method}.md", text.encode())
    return text


def label(method: str, variation: Mapping[str, Any]) -> str:
    """Return the changed settings; the name of the method if there are none."""
    return ", ".join(f"{name}={value}" for name, value in variation.items()) or method


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("benchmarks.quality.sweep", __doc__, subjects=6, prompts=8, pictures=2)
    parser.set_defaults(split="validation")
    add = parser.add_argument
    add("--method", default="paper", help=f"method to vary: {', '.join(FORWARD_METHODS)}")
    add(
        "--change",
        action="append",
        metavar="NAME=VALUE[,NAME=VALUE]",
        help="one row with these settings; repeatable; default: the paper's settings, one at a time",
    )
    add("--seeds", type=int, default=1, help="number of search seeds")
    add("--forwards", default="3000", help="U-Net evaluations for each case, separated by commas")
    add_seed_per_case(parser)
    return parser


def _sweep(given: argparse.Namespace) -> Sweep:
    """Return the sweep of parsed arguments.

    Raises:
        BenchmarkError: a number is too small.
        InvalidSettingsError: --set or --change is not NAME=VALUE.
    """
    seeds, forwards = at_least(1, given.seeds, "seeds"), whole_numbers(given.forwards, "forwards")
    options = RunOptions(parse_selection(given), [given.method], seeds, forwards, given.seed_per_case)
    if given.change is None:
        return Sweep(given.method, options)
    changes = [parse_assignments(text.split(","), "change") for text in given.change]
    return Sweep(given.method, options, ({}, *changes))


if __name__ == "__main__":
    main()
