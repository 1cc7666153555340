"""A run of EmojiBooth: every method on every case, measured once and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.quality.drawing import Pictures
from benchmarks.quality.grids import Shown, columns, write_grid
from benchmarks.quality.instruments import Instruments
from benchmarks.quality.ledger import row_id
from benchmarks.quality.methods import check_methods
from benchmarks.quality.prompts import Prompt
from benchmarks.quality.records import Row, parse_row
from benchmarks.quality.results import Results
from benchmarks.quality.searching import check_plans
from benchmarks.quality.sources import Source, described
from benchmarks.quality.stage import Selection, Stage
from zoodip_core.base_models.catalog import BaseModelEntry


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
