"""A run of the paper's protocol on photos: every method on every subject, measured once and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.quality.anchors import words
from benchmarks.quality.cases.protocols import Phrase
from benchmarks.quality.dreambooth.metrics import Encoders, Fidelity, measure
from benchmarks.quality.dreambooth.subjects import PROMPTS, Photographed, phrases
from benchmarks.quality.learning.methods import METHODS, check_methods, check_plans
from benchmarks.quality.report.grids import Shown, columns, write_grid
from benchmarks.quality.report.results import Results
from benchmarks.quality.report.rows import row_id, with_figures
from benchmarks.quality.sources import Bundles, Pictures, Source, described, learned
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.diffusion.loading import locate
from zoodip_core.personalization.personalize import check_subject

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
        parse = partial(with_figures, Row, Fidelity)
        self._results = Results(asked.out, "dreambooth.jsonl", parse, tell)

    def run(self) -> list[Row]:
        """The rows of all methods, in order; a grid of each."""
        found = []
        for method in self.methods:
            rows = list(self._rows(method))
            self._write_grid(method, rows)
            found += rows
        return found

    def _rows(self, method: str) -> Iterator[Row]:
        for index, subject in enumerate(self._subjects):
            for source in self._sources(method, index):
                own = self._id(index, source)
                about = described(source, subject.name)
                yield self._results.row(own, about, partial(self._measure, own, index, source))

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
        return row_id(
            {
                "method": source.method,
                "case": self._subjects[index].name,
                "seed": source.seed,
                "forwards": source.forwards,
                "source": source.own,
                "prompts": [phrase.template for phrase in self._phrases[index]],
                "pictures": self._asked.pictures,
                "drawing": self._bundles.drawing,
                "instruments": self._encoders.id,
            }
        )

    def _measure(self, own: str, index: int, source: Source[Phrase]) -> tuple[Row, Pictures]:
        subject, asked = self._subjects[index], self._phrases[index]
        outcome = source.outcome()
        drawn = source.draw(asked, self._asked.pictures)
        figures = measure(subject.references, asked, drawn, self._encoders)
        facts = (own, self._bundles.entry.name, source.method, subject.name, source.seed, source.forwards)
        return Row(*facts, figures, outcome.fixed_loss, outcome.seconds, outcome.peak_mb), drawn

    def _write_grid(self, method: str, rows: Sequence[Row]) -> None:
        """A row a subject: the first seed after the most forwards."""
        most = max(row.forwards for row in rows)
        chosen = {row.subject: row for row in rows if row.forwards == most and row.seed == 0}
        shown = []
        for subject, asked in zip(self._subjects, self._phrases, strict=True):
            labels = columns(asked, self._asked.pictures)
            pictures = self._results.shown([chosen[subject.name]], len(labels))
            shown.append(Shown(subject.name, subject, pictures, labels))
        write_grid(self._asked.out / f"dreambooth-{self._bundles.entry.name}-{method}.png", shown)
