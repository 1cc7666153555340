"""A run of EmojiBooth: every method on every case, measured once and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.quality.anchors import anchors
from benchmarks.quality.cases.prompts import PROMPTS, Prompt, prompt_facts, prompts
from benchmarks.quality.cases.subjects import Half, cases
from benchmarks.quality.learning.methods import ANCHORS, METHODS, check_methods, check_plans
from benchmarks.quality.metrics import Figures, Instruments, measure
from benchmarks.quality.report.grids import Shown, columns, write_grid
from benchmarks.quality.report.results import Results
from benchmarks.quality.report.rows import Row, parse_row, row_id
from benchmarks.quality.sources import Bundles, Pictures, Source, described, learned
from zoodip_core.base_models.catalog import BaseModelEntry


@dataclass(frozen=True)
class Selection:
    """Which cases are learned, and what is drawn of each."""

    out: Path
    kind: str = "subjects"
    half: Half = "report"
    subjects: int | None = None  # None: all of the half
    prompts: int = PROMPTS
    pictures: int = 5  # of each prompt
    changes: dict[str, Any] = field(default_factory=dict)  # over the settings of every zeroth-order method
    device: str | None = None


class Stage:
    """The cases of a selection, and all that draws or measures them."""

    def __init__(
        self,
        entry: BaseModelEntry,
        selection: Selection,
        tools: Instruments,
        tell: Callable[[str], None],
    ) -> None:
        """Choose cases and prompts; no weights are loaded.

        Raises:
            BenchmarkError: an unknown kind, or a count out of range.
        """
        self.cases = cases(tools.world, selection.kind, selection.half, selection.subjects)
        self.asked: Sequence[Sequence[Prompt]] = [
            prompts(case, tools.world, selection.prompts) for case in self.cases
        ]
        self.selection, self.tools, self.tell = selection, tools, tell
        self.bundles = Bundles(entry, device=selection.device)

    def sources(self, method: str, *, seeds: int, forwards: Sequence[int]) -> Iterator[Source[Prompt]]:
        """What draws the cases under an anchor or a method.

        Raises:
            BenchmarkError: a count is too small for one step.
            InvalidSettingsError: a setting is unknown or not allowed.
        """
        if method in ANCHORS:
            if method == "caption" and self.selection.kind == "shapes":
                self.tell("caption: no trained word names a held-out shape, so there is no such row")
            yield from anchors(method, self.bundles, self.cases, self.tools.world)
            return
        yield from learned(
            METHODS[method],
            self.bundles,
            self.cases,
            self.selection.out / "searches",
            seeds=range(seeds),
            forwards=forwards,
            changes=self.selection.changes,
            tell=self.tell,
        )

    def facts(self, index: int) -> dict[str, Any]:
        """Return what a row id records of a case: prompts, pictures, drawing settings and instruments."""
        return {
            "kind": self.selection.kind,
            "case": self.cases[index].name,
            "prompts": [prompt_facts(prompt) for prompt in self.asked[index]],
            "pictures": self.selection.pictures,
            "drawing": self.bundles.drawing,
            "instruments": self.tools.id,
        }

    def figures(self, index: int, drawn: Pictures) -> Figures:
        """The figures of the pictures of one case."""
        tools = self.tools
        return measure(self.cases[index], self.asked[index], drawn, tools.embedder, tools.judge)


@dataclass(frozen=True)
class Options:
    """What is asked of a run."""

    selection: Selection
    methods: Sequence[str]
    seeds: int = 2  # of the search
    forwards: Sequence[int] = (3000, 9000)


class Booth:
    """One run; what was measured before, with the same options, is not measured again."""

    def __init__(
        self, entry: BaseModelEntry, options: Options, tools: Instruments, tell: Callable[[str], None]
    ) -> None:
        """Check everything that can be checked without weights.

        Raises:
            BenchmarkError: an unknown method or kind, a count out of range, or a damaged results file.
            InvalidSettingsError: a setting is unknown or not allowed.
        """
        self.methods = check_methods(options.methods)
        check_plans(self.methods, entry, forwards=options.forwards, changes=options.selection.changes)
        self.stage = Stage(entry, options.selection, tools, tell)
        self.results = Results(options.selection.out, "results.jsonl", parse_row, tell)
        self._options = options

    def run(self) -> list[Row]:
        """The rows of all methods, in order; a grid of each."""
        found = []
        for method in self.methods:
            rows = self.rows(method)
            self._write_grid(method, rows)
            found += rows
        return found

    def rows(self, method: str) -> list[Row]:
        """The rows of one method, in order; what is missing is measured."""
        sources = self.stage.sources(method, seeds=self._options.seeds, forwards=self._options.forwards)
        return [self.row(source) for source in sources]

    def row(self, source: Source[Prompt]) -> Row:
        """The row of a source, measured if it is missing."""
        own, name = self._id(source), self.stage.cases[source.index].name
        return self.results.row(own, described(source, name), lambda: self._measure(own, source))

    def shown(self, title: str, index: int, row: Row) -> Shown:
        """A row of a grid: the kept pictures of a row of that case."""
        stage = self.stage
        labels = columns(stage.asked[index], stage.selection.pictures)
        return Shown(title, stage.cases[index], self.results.shown([row], len(labels)), labels)

    def _id(self, source: Source[Prompt]) -> str:
        """The id of a source's row: everything that its figures depend on."""
        facts = {
            "method": source.method,
            "seed": source.seed,
            "forwards": source.forwards,
            "source": source.own,
        }
        return row_id(facts | self.stage.facts(source.index))

    def _measure(self, own: str, source: Source[Prompt]) -> tuple[Row, Pictures]:
        selection, outcome = self.stage.selection, source.outcome()
        drawn = source.draw(self.stage.asked[source.index], selection.pictures)
        row = Row(
            own,
            source.method,
            selection.kind,
            selection.half,
            self.stage.cases[source.index].name,
            source.seed,
            source.forwards,
            self.stage.figures(source.index, drawn),
            outcome.fixed_loss,
            outcome.seconds,
            outcome.peak_mb,
        )
        return row, drawn

    def _write_grid(self, method: str, rows: Sequence[Row]) -> None:
        """A row a case: the first seed after the most forwards."""
        most = max((row.forwards for row in rows), default=0)
        chosen = {row.subject: row for row in rows if row.forwards == most and row.seed == 0}
        shown = [
            self.shown(case.name, index, chosen[case.name])
            for index, case in enumerate(self.stage.cases)
            if case.name in chosen
        ]
        selection = self.stage.selection
        write_grid(selection.out / f"grid-{selection.kind}-{method}.png", shown)
