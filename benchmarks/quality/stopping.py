"""`python -m benchmarks.quality.stopping`: what `stop="auto"` saves, and what it costs in quality.

Measuring does not touch a search, so a search that stops early is the beginning of one that does not: every case is
searched to the end once a seed, and drawn where the rule would have ended it and at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean, stdev

from jaxtyping import Float
from torch import Tensor

from benchmarks.quality.cases.protocols import TOKEN, Phrase
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
from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.learning.forward import begin_all, fixed_loss
from benchmarks.quality.learning.methods import METHODS, Plan, forwards_per_step, refuse_changes
from benchmarks.quality.learning.snapshots import plan_identity
from benchmarks.quality.learning.trajectories import POINTS, walk
from benchmarks.quality.metrics import interval
from benchmarks.quality.report.rows import Row
from benchmarks.quality.run import Booth, Options, Stage
from benchmarks.quality.sources import Outcome, Pictures, concept, draw
from zoodip_core.base_models.catalog import resolve_settings
from zoodip_core.files import write_atomically
from zoodip_core.personalization.early_stopping import has_stalled


@dataclass(frozen=True)
class Way:
    """One search of all cases from its start to its last step; `walk` must keep every step of it."""

    stage: Stage
    plan: Plan

    @cached_property
    def own(self) -> str:
        """The identity of the search."""
        return plan_identity(self.plan, self.stage.bundles.at(), self.stage.cases)

    @cached_property
    def tokens(self) -> Float[Tensor, "steps cases flat"]:
        """θ of every case, from before the first step to after the last."""
        folder = self.stage.selection.out / "searches"
        return walk(self.plan, self.stage.bundles.at(), self.stage.cases, folder, self.stage.tell)

    @cached_property
    def losses(self) -> list[list[float]]:
        """Of each case, the fixed-set losses where a search with these settings measures them."""
        bundle, settings = self.stage.bundles.at(), self.plan.settings
        steps = range(0, settings.steps + 1, settings.measure_every)
        begun = begin_all(bundle, self.stage.cases, settings)
        return [
            [fixed_loss(bundle, search, self.tokens[step, index]) for step in steps]
            for index, search in enumerate(begun)
        ]

    def auto(self, index: int) -> Ending:
        """Where `stop="auto"` ends the search of a case."""
        settings, losses = self.plan.settings, self.losses[index]
        for k, step in enumerate(range(0, settings.steps, settings.measure_every), start=1):
            if has_stalled(losses[:k], share=step / settings.steps):
                return Ending(self, index, step)
        return self.last(index)

    def last(self, index: int) -> Ending:
        """Where `stop="steps"` ends it."""
        return Ending(self, index, self.plan.settings.steps)


@dataclass(frozen=True)
class Ending:
    """The token of one case after some step, as EmojiBooth draws and measures it."""

    way: Way
    index: int
    step: int

    @property
    def method(self) -> str:
        """A name of its own: these rows have no loss and no cost, unlike the method's own."""
        return f"{self.way.plan.method.name}, ended"

    @property
    def seed(self) -> int:
        """Of the search."""
        return self.way.plan.settings.seed

    @property
    def forwards(self) -> int:
        """Of the search of this case; measuring takes some more."""
        return self.step * forwards_per_step(self.way.plan.method, self.way.plan.settings)

    @property
    def own(self) -> str:
        """The identity of the search."""
        return self.way.own

    def draw(self, asked: Sequence[Phrase], each: int) -> Pictures:
        """`each` pictures of every prompt with the token in it."""
        bundles, vectors = self.way.stage.bundles, self.way.plan.settings.vectors
        concepts = concept(bundles.at(), self.way.tokens[self.step, self.index], vectors)
        return draw(
            bundles.at(), bundles.entry, [prompt.with_noun(TOKEN) for prompt in asked], each, concepts
        )

    def outcome(self) -> Outcome:
        """Nothing: one search was run for all of its endings."""
        return Outcome()


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
