"""A run of the paper's protocol on photos: every method on every subject, measured once and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.quality.bundles import Bundles
from benchmarks.quality.fidelity import Encoders, Fidelity, measure
from benchmarks.quality.grids import Shown, keep_shown, read_shown, write_method_grid
from benchmarks.quality.ledger import Ledger, row_id
from benchmarks.quality.methods import METHODS, check_methods
from benchmarks.quality.photos import PROMPTS, Photographed, phrases
from benchmarks.quality.phrase import Phrase
from benchmarks.quality.records import with_figures
from benchmarks.quality.searching import check_plans
from benchmarks.quality.sources import Source, learned
from benchmarks.quality.words import words
from zoodip_core.catalog import BaseModelEntry
from zoodip_core.diffusion.loading import locate
from zoodip_core.personalize import check_subject

ALLOWED = ("initializer", *METHODS)


@dataclass(frozen=True)
class Asked:
    """What is asked of a run."""

    out: Path
    methods: Sequence[str]
    seeds: int = 1  # of the search
    forwards: Sequence[int] = (90_000,)
    prompts: int = PROMPTS
    pictures: int = 5  # of each prompt
    changes: dict[str, Any] = field(default_factory=dict)  # over the settings of every zeroth-order method
    device: str | None = None
    max_rows: int | None = None


@dataclass(frozen=True)
class Row:
    """One method on one subject with one seed after so many forwards."""

    id: str
    base_model: str
    method: str
    subject: str
    seed: int
    forwards: int
    figures: Fidelity
    fixed_loss: float | None
    seconds: float | None
    peak_mb: float | None


class PhotoBooth:
    """One run; every subject is searched by itself, so that a longer list of them repeats no search."""

    def __init__(
        self,
        entry: BaseModelEntry,
        subjects: Sequence[Photographed],
        encoders: Encoders,
        asked: Asked,
        tell: Callable[[str], None],
    ) -> None:
        """Check everything that can be checked without weights.

        Raises:
            BenchmarkError: an unknown method, a count out of range, or a damaged results file.
            InvalidModelError: the base model's folder is incomplete or of an unsupported kind.
            InvalidInputError: a subject cannot be learned on this base model.
            InvalidSettingsError: a setting is unknown or not allowed.
        """
        self.methods = check_methods(asked.methods, ALLOWED)
        check_plans(self.methods, entry, forwards=asked.forwards, changes=asked.changes)
        self._phrases = [phrases(subject.known.sort, asked.prompts) for subject in subjects]
        for subject in subjects:
            check_subject(subject.subject, locate(entry), images=len(subject.references))
        self._subjects, self._encoders, self._asked, self._tell = subjects, encoders, asked, tell
        self._bundles = Bundles(entry, device=asked.device, max_rows=asked.max_rows)
        self._ledger = Ledger(asked.out / "dreambooth.jsonl", partial(with_figures, Row, Fidelity))

    def run(self) -> list[Row]:
        """The rows of all methods, in order; a grid of each."""
        found = []
        for method in self.methods:
            rows = list(self._rows(method))
            self._write_grid(method, rows)
            found += rows
        return found

    def _rows(self, method: str) -> Iterator[Row]:
        for index in range(len(self._subjects)):
            for source in self._sources(method, index):
                own = self._id(index, source)
                if own not in self._ledger:
                    self._measure(own, index, source)
                yield self._ledger[own]

    def _sources(self, method: str, index: int) -> Iterator[Source[Phrase]]:
        """What draws a subject, with each seed and count of forwards."""
        alone, asked = [self._subjects[index]], self._asked
        if method == "initializer":
            yield from words(self._bundles, alone)
            return
        yield from learned(
            METHODS[method],
            self._bundles,
            alone,
            asked.out / "searches",
            seeds=range(asked.seeds),
            forwards=asked.forwards,
            changes=asked.changes,
            tell=self._tell,
        )

    def _id(self, index: int, source: Source[Phrase]) -> str:
        """Everything that the figures depend on, how the base model draws included."""
        facts = (source.method, self._subjects[index].name, source.seed, source.forwards, source.own)
        texts = [phrase.template for phrase in self._phrases[index]]
        return row_id([*facts, texts, self._asked.pictures, self._bundles.drawing, self._encoders.id])

    def _measure(self, own: str, index: int, source: Source[Phrase]) -> None:
        """Keep what was drawn, then its figures: a row that is there has its pictures."""
        subject, asked = self._subjects[index], self._phrases[index]
        outcome = source.outcome()
        drawn = source.draw(asked, self._asked.pictures)
        keep_shown(self._kept_folder(own), drawn)
        figures = measure(subject.references, asked, drawn, self._encoders)
        facts = (own, self._bundles.entry.name, source.method, subject.name, source.seed, source.forwards)
        self._ledger.add(Row(*facts, figures, outcome.fixed_loss, outcome.seconds, outcome.peak_mb))
        self._tell(
            f"{source.method}, seed {source.seed}, {source.forwards} forwards, {subject.name}: measured"
        )

    def _write_grid(self, method: str, rows: Sequence[Row]) -> None:
        """A row a subject: the first seed after the most forwards."""
        most = max(row.forwards for row in rows)
        chosen = {row.subject: row.id for row in rows if row.forwards == most and row.seed == 0}
        shown = [
            Shown(subject, read_shown(self._kept_folder(chosen[subject.name])), asked)
            for subject, asked in zip(self._subjects, self._phrases, strict=True)
        ]
        write_method_grid(self._asked.out / f"dreambooth-{self._bundles.entry.name}-{method}.png", shown)

    def _kept_folder(self, own: str) -> Path:
        return self._asked.out / "pictures" / own
