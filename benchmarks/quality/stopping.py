"""`python -m benchmarks.quality.stopping`: what `stop="auto"` saves, and what it costs in quality.

Measuring does not touch a search, so a search that stops early is the beginning of one that does not: every case is
searched to the end once a seed, and drawn where the rule would have ended it and at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from benchmarks.quality.arguments import (
    at_least,
    command,
    describe,
    embedded_model,
    instruments,
    print_or_exit,
    progress,
    selection,
)
from benchmarks.quality.booth import Booth, Options
from benchmarks.quality.endings import Way
from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.methods import METHODS
from benchmarks.quality.metrics import interval
from benchmarks.quality.records import Row
from benchmarks.quality.searching import Plan, forwards_per_step, refuse_changes
from benchmarks.quality.walking import POINTS
from zoodip_core.base_models.catalog import resolve_settings
from zoodip_core.files import write_atomically

HEAD = ("subject", "forwards", "with auto", "all right", "with auto", "CLIP-I", "with auto", "seeds apart")
METHOD = METHODS["default"]


@dataclass(frozen=True)
class Pair:
    """One search of one case, measured at its last step and where `stop="auto"` ends it."""

    steps: Row
    auto: Row

    @property
    def gain(self) -> float:
        """CLIP-I with auto minus that without."""
        return self.auto.figures.clip_i - self.steps.figures.clip_i


def plan(booth: Booth, seed: int) -> Plan:
    """The search of the model's own settings, changed as asked.

    Raises:
        BenchmarkError: more steps than tokens are kept of, or a seed that the run itself counts.
        InvalidSettingsError: a setting is unknown or not allowed.
    """
    bundles, changes = booth.stage.bundles, booth.stage.selection.changes
    refuse_changes(changes, "seed")
    values = changes | {"seed": seed}
    settings = resolve_settings(bundles.entry, bundles.at().family, METHOD.preset, values)
    if settings.steps > POINTS:
        raise BenchmarkError(f"--set steps={settings.steps}: allowed: at most {POINTS}")
    return Plan(METHOD, settings, (settings.steps * forwards_per_step(METHOD, settings),))


def measure(booth: Booth, seeds: int) -> list[Pair]:
    """Every case and seed; what is missing is searched and drawn."""
    found = []
    for seed in range(seeds):
        way = Way(booth.stage, plan(booth, seed))
        for index in range(len(booth.stage.cases)):
            found.append(Pair(booth.row(way.last(index)), booth.row(way.auto(index))))
    return found


def table(pairs: Sequence[Pair]) -> str:
    """A line a subject with means over its seeds, then the mean of all subjects."""
    by_subject = _by_subject(pairs)
    lines: list[Sequence[str]] = [HEAD, ("---",) * len(HEAD)]
    lines += [(name, *_cells(group), f"{_apart(group):.3f}") for name, group in by_subject.items()]
    apart = mean(_apart(group) for group in by_subject.values())
    lines.append(("mean", *_cells(pairs), f"{apart:.3f}"))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def verdict(pairs: Sequence[Pair]) -> str:
    """What is saved, and what it costs beside the seeds' spread."""
    saved = 1 - sum(pair.auto.forwards for pair in pairs) / sum(pair.steps.forwards for pair in pairs)
    early = sum(pair.auto.forwards < pair.steps.forwards for pair in pairs)
    low, high = interval([mean(pair.gain for pair in group) for group in _by_subject(pairs).values()])
    return (
        f"{early} of {len(pairs)} searches end early and {saved:.0%} of all forwards are saved; CLIP-I changes by "
        f"{mean(pair.gain for pair in pairs):+.4f} ({low:+.4f} to {high:+.4f})."
    )


def _by_subject(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    found: dict[str, list[Pair]] = {}
    for pair in pairs:
        found.setdefault(pair.steps.subject, []).append(pair)
    return found


def _cells(pairs: Sequence[Pair]) -> list[str]:
    def both(read: Callable[[Row], float | None], digits: int) -> list[str]:
        sides = ([pair.steps for pair in pairs], [pair.auto for pair in pairs])
        found = [[value for row in rows if (value := read(row)) is not None] for rows in sides]
        return [f"{mean(values):.{digits}f}" if values else "–" for values in found]

    return [
        *both(lambda row: row.forwards, 0),
        *both(lambda row: row.figures.right, 2),
        *both(lambda row: row.figures.clip_i, 3),
    ]


def _apart(pairs: Sequence[Pair]) -> float:
    """The standard deviation of CLIP-I over the seeds of one subject, searched to the end."""
    return stdev(pair.steps.figures.clip_i for pair in pairs)


def run(booth: Booth, seeds: int) -> str:
    """Measure what is missing; the table, which is written to the folder too."""
    chosen, entry = booth.stage.selection, booth.stage.bundles.entry
    pairs = measure(booth, seeds)
    text = (
        f"{describe(chosen, len(booth.stage.cases), entry)}; {seeds} search seeds, and the standard deviation of "
        f"CLIP-I over them. {verdict(pairs)}\n\n{table(pairs)}\n"
    )
    write_atomically(chosen.out / f"stopping-{chosen.kind}.md", text.encode())
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = command("benchmarks.quality.stopping", __doc__, subjects=None, prompts=12, pictures=2)
    parser.add_argument("--seeds", type=int, default=3, help="search seeds, at least 2")
    given = parser.parse_args(arguments)

    def made() -> str:
        seeds, entry = at_least(2, given.seeds, "seeds"), embedded_model()
        options = Options(selection(given), methods=())
        return run(Booth(entry, options, instruments(entry), progress), seeds)

    print_or_exit(made)


if __name__ == "__main__":
    main()
