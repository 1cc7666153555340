"""A run of EmojiBooth: measure every method on every case once, and keep the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.quality.anchors import make_anchors
from benchmarks.quality.cases.prompts import PROMPTS, Prompt, make_prompts, prompt_facts
from benchmarks.quality.cases.subjects import Split, make_cases
from benchmarks.quality.learning.methods import ANCHORS, METHODS, check_methods, check_plans
from benchmarks.quality.metrics import Figures, Instruments, measure
from benchmarks.quality.report.results import GridRowSpec, Results, column_labels, write_grid
from benchmarks.quality.report.rows import Row, parse_row, row_id
from benchmarks.quality.sources import BundleCache, Pictures, Source, describe_source, learned_tokens
from zoodip_core.base_models.catalog import BaseModelEntry


@dataclass(frozen=True)
class Selection:
    """The cases to learn, and the pictures to draw of each."""

    out: Path
    kind: str = "subjects"
    split: Split = "test"
    subjects: int | None = None  # None: all of the split
    prompts: int = PROMPTS
    pictures: int = 5  # of each prompt
    changes: dict[str, Any] = field(default_factory=dict)  # to the settings of all forward-pass methods
    device: str | None = None
    color_captions: int = 0  # captions of each subject that name its color
    templates: bool = False  # instead of captions
    calibration: Path | None = None  # file of `zoodip calibrate`; None: the shipped one


@dataclass(frozen=True)
class RunOptions:
    """Methods, seeds and lengths of a run."""

    selection: Selection
    methods: Sequence[str]
    seeds: int = 2  # of the search
    forwards: Sequence[int] = (3000, 9000)
    seed_per_case: bool = (
        False  # of forward-pass methods; else all cases of a seed share their random numbers
    )


class BenchmarkSetup:
    """The cases and prompts of a selection, the base model, and the instruments."""

    def __init__(
        self,
        entry: BaseModelEntry,
        selection: Selection,
        tools: Instruments,
        log: Callable[[str], None],
    ) -> None:
        """Choose cases and prompts; load no weights.

        Raises:
            BenchmarkError: an unknown kind, or a count out of range.
        """
        self.cases = make_cases(
            tools.world,
            selection.kind,
            selection.split,
            selection.subjects,
            color_captions=selection.color_captions,
            templates=selection.templates,
        )
        self.prompts: Sequence[Sequence[Prompt]] = [
            make_prompts(case, tools.world, selection.prompts) for case in self.cases
        ]
        self.selection, self.tools, self.log = selection, tools, log
        self.bundles = BundleCache(entry, device=selection.device)

    def sources(self, method: str, options: RunOptions) -> Iterator[Source[Prompt]]:
        """Yield the sources of an anchor or method for all cases.

        Raises:
            BenchmarkError: a length is too short for one step.
            InvalidSettingsError: a setting is unknown or not allowed.
        """
        if method in ANCHORS:
            if method == "caption" and self.selection.kind == "shapes":
                self.log("caption: skipped, because no trained word names a held-out shape")
            yield from make_anchors(method, self.bundles, self.cases, self.tools.world)
            return
        yield from learned_tokens(
            METHODS[method],
            self.bundles,
            self.cases,
            self.selection.out / "searches",
            seeds=range(options.seeds),
            forwards=options.forwards,
            changes=self.selection.changes,
            log=self.log,
            seed_per_case=options.seed_per_case,
        )

    def facts(self, index: int) -> dict[str, Any]:
        """Return what a row id records of a case: prompts, pictures, drawing settings and instruments."""
        return {
            "kind": self.selection.kind,
            "case": self.cases[index].name,
            "prompts": [prompt_facts(prompt) for prompt in self.prompts[index]],
            "pictures": self.selection.pictures,
            "drawing": self.bundles.drawing,
            "instruments": self.tools.id,
        }

    def figures(self, index: int, drawn: Pictures) -> Figures:
        """Return the figures of the pictures of one case."""
        tools = self.tools
        return measure(self.cases[index], self.prompts[index], drawn, tools.embedder, tools.judge)


class BenchmarkRun:
    """One run. A row that was measured before with the same options is not measured again."""

    def __init__(
        self, entry: BaseModelEntry, options: RunOptions, tools: Instruments, log: Callable[[str], None]
    ) -> None:
        """Validate everything that can be validated without weights.

        Raises:
            BenchmarkError: an unknown method or kind, a count out of range, or a damaged results file.
            InvalidSettingsError: a setting is unknown or not allowed.
        """
        self.methods = check_methods(options.methods)
        check_plans(self.methods, entry, forwards=options.forwards, changes=options.selection.changes)
        self.setup = BenchmarkSetup(entry, options.selection, tools, log)
        self.results = Results(options.selection.out, "results.jsonl", parse_row, log)
        self._options = options

    def run(self) -> list[Row]:
        """Return the rows of all methods, in order, and write one grid for each method."""
        found = []
        for method in self.methods:
            rows = self.rows(method)
            self._write_grid(method, rows)
            found += rows
        return found

    def rows(self, method: str) -> list[Row]:
        """Return the rows of one method, in order; measure the missing ones."""
        return [self.row(source) for source in self.setup.sources(method, self._options)]

    def row(self, source: Source[Prompt]) -> Row:
        """Return the row of a source; measure it if it is missing."""
        found, name = self._id(source), self.setup.cases[source.index].name
        return self.results.row(found, describe_source(source, name), lambda: self._measure(found, source))

    def grid_row(self, title: str, index: int, row: Row) -> GridRowSpec:
        """Return a grid row with the stored pictures of a row of this case."""
        setup = self.setup
        labels = column_labels(setup.prompts[index], setup.selection.pictures)
        return GridRowSpec(title, setup.cases[index], self.results.shown([row], len(labels)), labels)

    def _id(self, source: Source[Prompt]) -> str:
        """Return the id of a source's row: a hash of everything that its figures depend on."""
        facts = {
            "method": source.method,
            "seed": source.seed,
            "forwards": source.forwards,
            "source": source.identity,
        }
        return row_id(facts | self.setup.facts(source.index))

    def _measure(self, found: str, source: Source[Prompt]) -> tuple[Row, Pictures]:
        selection, outcome = self.setup.selection, source.outcome()
        drawn = source.draw(self.setup.prompts[source.index], selection.pictures)
        row = Row(
            found,
            source.method,
            selection.kind,
            selection.split,
            self.setup.cases[source.index].name,
            source.seed,
            source.forwards,
            self.setup.figures(source.index, drawn),
            outcome.fixed_loss,
            outcome.seconds,
            outcome.peak_mb,
        )
        return row, drawn

    def _write_grid(self, method: str, rows: Sequence[Row]) -> None:
        """Write a grid with one row for each case: the first seed after the most evaluations."""
        most = max((row.forwards for row in rows), default=0)
        chosen = {row.subject: row for row in rows if row.forwards == most and row.seed == 0}
        shown = [
            self.grid_row(case.name, index, chosen[case.name])
            for index, case in enumerate(self.setup.cases)
            if case.name in chosen
        ]
        selection = self.setup.selection
        write_grid(selection.out / f"grid-{selection.kind}-{method}.png", shown)
