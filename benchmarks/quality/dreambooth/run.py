"""A run of the paper's protocol on photos: measure every method on every subject once, and keep the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.quality.anchors import initializer_anchors
from benchmarks.quality.cases.protocols import PromptTemplate
from benchmarks.quality.dreambooth.metrics import Encoders, Fidelity, measure
from benchmarks.quality.dreambooth.subjects import PROMPTS, PhotoSubject, read_prompts
from benchmarks.quality.learning.methods import METHODS, check_methods, check_plans
from benchmarks.quality.report.results import GridRowSpec, Results, column_labels, write_grid
from benchmarks.quality.report.rows import parse_with_figures, row_id
from benchmarks.quality.sources import BundleCache, Pictures, Source, describe_source, learned_tokens
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.base_models.model_folder import find_model_folder
from zoodip_core.personalization.subject import resolve_subject

ALLOWED = ("initializer", *METHODS)


@dataclass(frozen=True)
class DreamBoothOptions:
    """Methods, lengths and pictures of a run."""

    out: Path
    methods: Sequence[str]
    seeds: int = 1  # of the search
    forwards: Sequence[int] = (90_000,)
    prompts: int = PROMPTS
    pictures: int = 5  # of each prompt
    changes: dict[str, Any] = field(default_factory=dict)  # to the settings of all forward-pass methods
    device: str | None = None
    max_rows: int | None = None


@dataclass(frozen=True)
class PhotoRow:
    """The figures of one method on one subject, with one seed, after a number of U-Net evaluations."""

    id: str
    base_model: str
    method: str
    subject: str
    seed: int
    forwards: int  # U-Net evaluations (NFE)
    figures: Fidelity
    fixed_loss: float | None  # validation loss
    seconds: float | None
    peak_mb: float | None


class DreamBoothRun:
    """One run. Each subject has its own search, so a longer list of subjects repeats no search."""

    def __init__(
        self,
        entry: BaseModelEntry,
        subjects: Sequence[PhotoSubject],
        encoders: Encoders,
        options: DreamBoothOptions,
        log: Callable[[str], None],
    ) -> None:
        """Validate everything that can be validated without weights.

        Raises:
            BenchmarkError: an unknown method, a count out of range, or a damaged results file.
            InvalidModelError: the base model's folder is incomplete or of an unsupported kind.
            InvalidInputError: a subject cannot be learned on this base model.
            InvalidSettingsError: a setting is unknown or not allowed.
        """
        self.methods = check_methods(options.methods, ALLOWED)
        check_plans(self.methods, entry, forwards=options.forwards, changes=options.changes)
        self._prompts = [read_prompts(subject.known.category, options.prompts) for subject in subjects]
        for subject in subjects:
            resolve_subject(
                subject.subject,
                find_model_folder(entry),
                images=len(subject.references),
                vectors=options.changes.get("vectors", 1),
                templates=entry.templates.get(subject.subject.kind),
            )
        self._subjects, self._encoders, self._options, self._log = subjects, encoders, options, log
        self._bundles = BundleCache(entry, device=options.device, max_rows=options.max_rows)
        parse = partial(parse_with_figures, PhotoRow, Fidelity)
        self._results = Results(options.out, "dreambooth.jsonl", parse, log)

    def run(self) -> list[PhotoRow]:
        """Return the rows of all methods, in order, and write one grid for each method."""
        found = []
        for method in self.methods:
            rows = list(self._rows(method))
            self._write_grid(method, rows)
            found += rows
        return found

    def _rows(self, method: str) -> Iterator[PhotoRow]:
        for index, subject in enumerate(self._subjects):
            for source in self._sources(method, index):
                found = self._id(index, source)
                about = describe_source(source, subject.name)
                yield self._results.row(found, about, partial(self._measure, found, index, source))

    def _sources(self, method: str, index: int) -> Iterator[Source[PromptTemplate]]:
        """Yield the sources of one subject, for each seed and number of evaluations."""
        alone, options = [self._subjects[index]], self._options
        if method == "initializer":
            yield from initializer_anchors(self._bundles, alone)
            return
        yield from learned_tokens(
            METHODS[method],
            self._bundles,
            alone,
            options.out / "searches",
            seeds=range(options.seeds),
            forwards=options.forwards,
            changes=options.changes,
            log=self._log,
        )

    def _id(self, index: int, source: Source[PromptTemplate]) -> str:
        """Return a hash of everything that the figures depend on."""
        return row_id(
            {
                "method": source.method,
                "case": self._subjects[index].name,
                "seed": source.seed,
                "forwards": source.forwards,
                "source": source.identity,
                "prompts": [prompt.template for prompt in self._prompts[index]],
                "pictures": self._options.pictures,
                "drawing": self._bundles.drawing,
                "instruments": self._encoders.id,
            }
        )

    def _measure(self, found: str, index: int, source: Source[PromptTemplate]) -> tuple[PhotoRow, Pictures]:
        subject, prompts = self._subjects[index], self._prompts[index]
        outcome = source.outcome()
        drawn = source.draw(prompts, self._options.pictures)
        figures = measure(subject.references, prompts, drawn, self._encoders)
        facts = (found, self._bundles.entry.name, source.method, subject.name, source.seed, source.forwards)
        return PhotoRow(*facts, figures, outcome.fixed_loss, outcome.seconds, outcome.peak_mb), drawn

    def _write_grid(self, method: str, rows: Sequence[PhotoRow]) -> None:
        """Write a grid with one row for each subject: the first seed after the most evaluations."""
        most = max(row.forwards for row in rows)
        chosen = {row.subject: row for row in rows if row.forwards == most and row.seed == 0}
        shown = []
        for subject, prompts in zip(self._subjects, self._prompts, strict=True):
            labels = column_labels(prompts, self._options.pictures)
            pictures = self._results.shown([chosen[subject.name]], len(labels))
            shown.append(GridRowSpec(subject.name, subject, pictures, labels))
        write_grid(self._options.out / f"dreambooth-{self._bundles.entry.name}-{method}.png", shown)
