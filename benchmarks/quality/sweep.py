"""`python -m benchmarks.quality.sweep`: settings of a method changed row by row, on the tuning half.

The paper tunes T_L, T_U, μ, η and n anew for every base model; this is how it is done here. The fixed set is the same
for all rows, whatever timesteps the search itself looks at.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.quality.cli import (
    at_least,
    command,
    describe,
    embedded_model,
    instruments,
    print_or_exit,
    progress,
    selection,
)
from benchmarks.quality.learning.methods import CHANGEABLE, check_methods, check_plans
from benchmarks.quality.report.tables import paired_table, table
from benchmarks.quality.run import Booth, Options
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
    """What is varied, and what is asked of each run."""

    method: str
    options: Options
    variations: Sequence[Mapping[str, Any]] = VARIATIONS


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    given = _parser().parse_args(arguments)
    print_or_exit(lambda: run(_sweep(given)))


def run(sweep: Sweep) -> str:
    """Measure what is missing; the table, which is written to the folder too.

    Raises:
        BenchmarkError: a method that no change applies to, or a number that is out of range.
        InvalidSettingsError: a setting is unknown or not allowed.
    """
    check_methods([sweep.method], CHANGEABLE, "method")
    entry, chosen, rows = embedded_model(), sweep.options.selection, []
    changes = [chosen.changes | dict(variation) for variation in sweep.variations]
    for changed in changes:  # every one before the first search
        check_plans(sweep.options.methods, entry, forwards=sweep.options.forwards, changes=changed)
    tools = instruments(entry)
    for variation, changed in zip(sweep.variations, changes, strict=True):
        varied = replace(sweep.options, selection=replace(chosen, changes=changed))
        found = Booth(entry, varied, tools, progress).run()
        rows += [replace(row, method=label(sweep.method, variation)) for row in found]
    head = describe(chosen, len({row.subject for row in rows}), entry)
    text = f"{head}; {sweep.options.seeds} search seeds; each row changes what it names.\n\n{table(rows)}\n"
    pairs = [(label(sweep.method, variation), sweep.method) for variation in sweep.variations if variation]
    text += f"\nOn the same {chosen.kind}:\n\n{paired_table(rows, pairs)}\n"
    write_atomically(chosen.out / f"sweep-{sweep.method}.md", text.encode())
    return text


def label(method: str, variation: Mapping[str, Any]) -> str:
    """The changed settings in words; the method's own name for none."""
    return ", ".join(f"{name}={value}" for name, value in variation.items()) or method


def _parser() -> argparse.ArgumentParser:
    parser = command("benchmarks.quality.sweep", __doc__, subjects=6, prompts=8, pictures=2)
    parser.set_defaults(half="tuning")
    add = parser.add_argument
    add("--method", default="paper", help=f"the method whose settings are varied: {', '.join(CHANGEABLE)}")
    add(
        "--change",
        action="append",
        metavar="NAME=VALUE[,NAME=VALUE]",
        help="a row beside the method's own; may be repeated; left out: the paper's settings, one at a time",
    )
    add("--seeds", type=int, default=1, help="search seeds")
    add("--forwards", type=int, default=3000, help="U-Net forwards of one case")
    return parser


def _sweep(given: argparse.Namespace) -> Sweep:
    """The sweep, with every number checked.

    Raises:
        BenchmarkError: a number that is too small.
        InvalidSettingsError: --set or --change without NAME=VALUE.
    """
    seeds, forwards = at_least(1, given.seeds, "seeds"), at_least(1, given.forwards, "forwards")
    options = Options(selection(given), [given.method], seeds, (forwards,))
    if given.change is None:
        return Sweep(given.method, options)
    changes = [parse_assignments(text.split(","), "change") for text in given.change]
    return Sweep(given.method, options, ({}, *changes))


if __name__ == "__main__":
    main()
