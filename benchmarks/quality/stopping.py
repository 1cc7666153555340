"""`python -m benchmarks.quality.stopping`: what `stop="auto"` saves, and what it costs in quality.

Measuring does not change a search, so an early-stopped search is a prefix of a complete one. Every case is searched
completely once for each seed. Pictures are drawn at the last step and where the rule would have stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean, stdev

from jaxtyping import Float
from torch import Tensor

from benchmarks.quality.cases.protocols import TOKEN, PromptTemplate
from benchmarks.quality.cli import (
    at_least,
    describe,
    embedded_model,
    load_instruments,
    log_progress,
    make_parser,
    parse_selection,
    print_or_exit,
)
from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.learning.forward import begin_all, validation_loss
from benchmarks.quality.learning.methods import METHODS, Plan, forwards_per_step, refuse_changes
from benchmarks.quality.learning.snapshots import plan_identity
from benchmarks.quality.learning.trajectories import POINTS, record_trajectory
from benchmarks.quality.metrics import interval
from benchmarks.quality.report.rows import Row
from benchmarks.quality.report.tables import ABSENT, markdown
from benchmarks.quality.run import BenchmarkRun, BenchmarkSetup, RunOptions
from benchmarks.quality.sources import Pictures, SearchOutcome, concept_vectors, draw
from zoodip_core.base_models.presets import resolve_settings
from zoodip_core.files import write_atomically
from zoodip_core.personalization.early_stopping import has_stalled

HEAD = (
    *("subject", "NFE", "with auto", "attribute accuracy", "with auto"),
    *("CLIP-I", "with auto", "CLIP-I std over seeds"),
)
METHOD = METHODS["full"]


@dataclass(frozen=True)
class Trajectory:
    """One search of all cases from its first to its last step. Every step must be recorded."""

    setup: BenchmarkSetup
    plan: Plan

    @cached_property
    def identity(self) -> str:
        """Return the identity of the search."""
        return plan_identity(self.plan, self.setup.bundles.at(), self.setup.cases)

    @cached_property
    def tokens(self) -> Float[Tensor, "steps cases flat"]:
        """Return θ of every case, from before the first step to after the last."""
        setup, folder = self.setup, self.setup.selection.out / "searches"
        return record_trajectory(self.plan, setup.bundles.at(), setup.cases, folder, setup.log)

    @cached_property
    def losses(self) -> list[list[float]]:
        """Return the validation losses of each case at the steps where a search measures them."""
        bundle, settings = self.setup.bundles.at(), self.plan.settings
        steps = range(0, settings.steps + 1, settings.measure_every)
        begun = begin_all(bundle, self.setup.cases, [settings] * len(self.setup.cases))
        return [
            [validation_loss(bundle, search, self.tokens[step, index]) for step in steps]
            for index, search in enumerate(begun)
        ]

    def auto(self, index: int) -> StoppingPoint:
        """Return the point where `stop="auto"` stops the search of a case."""
        settings, losses = self.plan.settings, self.losses[index]
        for k, step in enumerate(range(0, settings.steps, settings.measure_every), start=1):
            if has_stalled(losses[:k], share=step / settings.steps):
                return StoppingPoint(self, index, step)
        return self.last(index)

    def last(self, index: int) -> StoppingPoint:
        """Return the point where `stop="steps"` stops it."""
        return StoppingPoint(self, index, self.plan.settings.steps)


@dataclass(frozen=True)
class StoppingPoint:
    """The token of one case after a step, as a source of pictures."""

    trajectory: Trajectory
    index: int
    step: int

    @property
    def method(self) -> str:
        """Return a distinct method name, because these rows have neither loss nor cost."""
        return f"{self.trajectory.plan.method.name}, ended"

    @property
    def seed(self) -> int:
        """Return the seed of the search."""
        return self.trajectory.plan.settings.seed

    @property
    def forwards(self) -> int:
        """Return the U-Net evaluations of this case's search, without those of measuring."""
        return self.step * forwards_per_step(self.trajectory.plan.method, self.trajectory.plan.settings)

    @property
    def identity(self) -> str:
        """Return the identity of the search."""
        return self.trajectory.identity

    def draw(self, prompts: Sequence[PromptTemplate], each: int) -> Pictures:
        """Draw `each` pictures of every prompt with the token."""
        bundles, vectors = self.trajectory.setup.bundles, self.trajectory.plan.settings.vectors
        concepts = concept_vectors(bundles.at(), self.trajectory.tokens[self.step, self.index], vectors)
        texts = [prompt.with_noun(TOKEN) for prompt in prompts]
        return draw(bundles.at(), bundles.entry, texts, each, concepts)

    def outcome(self) -> SearchOutcome:
        """Return an empty outcome: one search serves all of its stopping points."""
        return SearchOutcome()


@dataclass(frozen=True)
class Pair:
    """One search of one case, measured at its last step and where `stop="auto"` stops it."""

    steps: Row
    auto: Row

    @property
    def gain(self) -> float:
        """Return CLIP-I with auto minus CLIP-I without."""
        return self.auto.figures.clip_i - self.steps.figures.clip_i


def make_plan(benchmark: BenchmarkRun, seed: int) -> Plan:
    """Return the search with the model's own settings and the requested changes.

    Raises:
        BenchmarkError: more steps than a trajectory has points, or a changed seed.
        InvalidSettingsError: a setting is unknown or not allowed.
    """
    bundles, changes = benchmark.setup.bundles, benchmark.setup.selection.changes
    refuse_changes(changes, "seed")
    values = changes | {"seed": seed}
    settings = resolve_settings(bundles.entry, bundles.at().family, METHOD.preset, values)
    if settings.steps > POINTS:
        raise BenchmarkError.mismatch("settings.steps", got=settings.steps, expected=f"at most {POINTS}")
    return Plan(METHOD, settings, (settings.steps * forwards_per_step(METHOD, settings),))


def measure(benchmark: BenchmarkRun, seeds: int) -> list[Pair]:
    """Return the pairs of all cases and seeds; search and draw the missing ones."""
    found = []
    for seed in range(seeds):
        trajectory = Trajectory(benchmark.setup, make_plan(benchmark, seed))
        for index in range(len(benchmark.setup.cases)):
            found.append(Pair(benchmark.row(trajectory.last(index)), benchmark.row(trajectory.auto(index))))
    return found


def table(pairs: Sequence[Pair]) -> str:
    """Return one line for each subject with means over its seeds, then the mean of all subjects."""
    by_subject = _by_subject(pairs)
    lines: list[Sequence[str]] = [HEAD]
    lines += [(name, *_cells(group), f"{_spread(group):.3f}") for name, group in by_subject.items()]
    spread = mean(_spread(group) for group in by_subject.values())
    return markdown([*lines, ("mean", *_cells(pairs), f"{spread:.3f}")])


def verdict(pairs: Sequence[Pair]) -> str:
    """Return a sentence on the saved evaluations and the change of CLIP-I."""
    saved = 1 - sum(pair.auto.forwards for pair in pairs) / sum(pair.steps.forwards for pair in pairs)
    early = sum(pair.auto.forwards < pair.steps.forwards for pair in pairs)
    low, high = interval([mean(pair.gain for pair in group) for group in _by_subject(pairs).values()])
    return (
        f"{early} of {len(pairs)} searches stop early and {saved:.0%} of all evaluations are saved; CLIP-I changes "
        f"by {mean(pair.gain for pair in pairs):+.4f} ({low:+.4f} to {high:+.4f})."
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
        return [f"{mean(values):.{digits}f}" if values else ABSENT for values in found]

    return [
        *both(lambda row: row.forwards, 0),
        *both(lambda row: row.figures.attribute_accuracy, 2),
        *both(lambda row: row.figures.clip_i, 3),
    ]


def _spread(pairs: Sequence[Pair]) -> float:
    """Return the standard deviation of CLIP-I over the seeds of one subject, at the last step."""
    return stdev(pair.steps.figures.clip_i for pair in pairs)


def run(benchmark: BenchmarkRun, seeds: int) -> str:
    """Measure the missing rows; return the table and write it to the folder."""
    chosen, entry = benchmark.setup.selection, benchmark.setup.bundles.entry
    pairs = measure(benchmark, seeds)
    text = (
        f"{describe(chosen, len(benchmark.setup.cases), entry)}; {seeds} search seeds. {verdict(pairs)}\n\n"
        f"{table(pairs)}\n"
    )
    write_atomically(chosen.out / f"stopping-{chosen.kind}.md", text.encode())
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = make_parser("benchmarks.quality.stopping", __doc__, subjects=None, prompts=12, pictures=2)
    parser.add_argument("--seeds", type=int, default=3, help="number of search seeds, at least 2")
    given = parser.parse_args(arguments)

    def make_text() -> str:
        seeds = at_least(2, given.seeds, "seeds")
        options = RunOptions(parse_selection(given), methods=())
        entry = embedded_model(options.selection.calibration)
        return run(BenchmarkRun(entry, options, load_instruments(entry), log_progress), seeds)

    print_or_exit(make_text)


if __name__ == "__main__":
    main()
