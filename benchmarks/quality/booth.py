"""A run of EmojiBooth: every method on every case, measured once and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.quality.grids import Shown, keep_shown, read_shown, write_method_grid
from benchmarks.quality.instruments import Instruments
from benchmarks.quality.ledger import Ledger, row_id
from benchmarks.quality.methods import check_methods
from benchmarks.quality.prompts import Prompt
from benchmarks.quality.records import Row, parse_row
from benchmarks.quality.searching import check_plans
from benchmarks.quality.sources import Source
from benchmarks.quality.stage import Selection, Stage
from zoodip_core.catalog import BaseModelEntry


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
        self._options, self._out = options, options.selection.out
        self._ledger = Ledger(self._out / "results.jsonl", parse_row)

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
        own = self._id(source)
        if own not in self._ledger:
            self._measure(own, source)
        return self._ledger[own]

    def kept_folder(self, row: Row) -> Path:
        """Where a row's first pictures lie."""
        return self._out / "pictures" / row.id

    def _id(self, source: Source[Prompt]) -> str:
        """The id of a source's row: everything that its figures depend on."""
        stage, name = self.stage, self.stage.cases[source.index].name
        facts = (source.method, stage.selection.kind, name, source.seed, source.forwards, source.own)
        return row_id([*facts, *stage.drawn(source.index)])

    def _measure(self, own: str, source: Source[Prompt]) -> None:
        """Keep what was drawn, then its figures: a row that is there has its pictures."""
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
        keep_shown(self.kept_folder(row), drawn)
        self._ledger.add(row)
        self.stage.tell(f"{row.method}, seed {row.seed}, {row.forwards} forwards, {row.subject}: measured")

    def _write_grid(self, method: str, rows: Sequence[Row]) -> None:
        """A grid of the method's first seed after the most forwards, if its pictures are kept here."""
        most = max((row.forwards for row in rows), default=0)
        chosen = {row.subject: row for row in rows if row.forwards == most and row.seed == 0}
        shown = [
            Shown(case, read_shown(self.kept_folder(chosen[case.name])), asked)
            for case, asked in zip(self.stage.cases, self.stage.asked, strict=True)
            if case.name in chosen
        ]
        if shown and all(one.pictures for one in shown):
            write_method_grid(self._out / f"grid-{self.stage.selection.kind}-{method}.png", shown)
