"""One iteration of the engine: a unit of work of every personalization, and some of the generations."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import structlog

from worker.engine_protocol import JobEngine
from worker.generation_job import GenerationJob
from worker.personalization_job import PersonalizationJob
from worker.stats import Stats
from zoodip_core.errors import ZoodipError
from zoodip_core.fair_shares import FairShares
from zoodip_core.service.errors import InternalError

RunningJob = PersonalizationJob | GenerationJob

_log = structlog.get_logger("zoodip.worker")


class Iterations:
    """Runs iterations. Jobs on one base model share their forward passes.

    Args:
        engine: holds the base models.
        stats: records durations and rows.
        share: share of their speed that personalizations keep while the worker draws.
    """

    def __init__(self, engine: JobEngine, stats: Stats, share: float) -> None:
        self._engine = engine
        self._stats = stats
        self._shares = FairShares(share, overhead_cells=engine.overhead_cells)

    def run(
        self, personalizations: Sequence[PersonalizationJob], generations: Sequence[GenerationJob]
    ) -> Iterator[tuple[RunningJob, ZoodipError | None]]:
        """Run one iteration; yield each job that has had a turn, with its error or None.

        A job with an error has not advanced. The results of a base model are yielded before the next one runs.
        """
        turns = self._shares.allot(sum(one.search.cells for one in personalizations), generations)
        units: dict[RunningJob, int] = dict.fromkeys(personalizations, 1) | dict(turns)
        by_model = sorted(units, key=lambda one: one.job.base_model)
        for base_model, group in groupby(by_model, key=lambda one: one.job.base_model):
            yield from self._step(base_model, {one: units[one] for one in group})

    def _step(
        self, base_model: str, units: dict[RunningJob, int]
    ) -> Iterator[tuple[RunningJob, ZoodipError | None]]:
        searches = [one for one in units if isinstance(one, PersonalizationJob)]
        drawings = [one for one in units if isinstance(one, GenerationJob)]
        cells, rows, steps = _work(searches, {one: units[one] for one in drawings})
        jobs: list[RunningJob] = [*searches, *drawings]
        shares = [_share(one, units[one]) for one in jobs]
        started = time.perf_counter()
        errors: Sequence[ZoodipError | None]
        try:
            turns = [(one.drawing, units[one]) for one in drawings]
            errors = self._engine.step([one.search for one in searches], turns)
        except Exception as failure:  # noqa: BLE001 (translated: jobs on other base models must go on)
            _log.exception("step_failed", jobs=[one.job.id for one in units])
            errors = [InternalError(f"the step failed: {type(failure).__name__}")] * len(units)
        seconds = time.perf_counter() - started
        self._stats.record_iteration(base_model, steps, rows, seconds, cells)
        for one, share, error in zip(jobs, shares, errors, strict=True):
            if error is None:
                one.meter.add(evaluations=share.rows, seconds=seconds * share.cells / cells.total())
        yield from zip(jobs, errors, strict=True)


class _Share(NamedTuple):
    """Part of one job in an iteration: rows of the U-Net, and latent cells with the decoding of images."""

    rows: int
    cells: int


def _share(job: RunningJob, units: int) -> _Share:
    if isinstance(job, PersonalizationJob):
        return _Share(job.search.rows, job.search.cells)
    return _Share(0 if job.decodes_next else units, units * job.unit_cells)


def _work(
    searches: Sequence[PersonalizationJob], drawings: dict[GenerationJob, int]
) -> tuple[Counter[str], int, int]:
    """Return the latent cells of each stage, the rows, and the number of searches that take a step."""
    cells: Counter[str] = Counter()
    for one in searches:
        decodes = one.search.activity == "preview" and not one.search.rows
        cells["decode" if decodes else one.search.activity] += one.search.cells
    for drawing, units in drawings.items():
        cells["decode" if drawing.decodes_next else "generate"] += units * drawing.unit_cells
    rows = sum(one.search.rows for one in searches)
    rows += sum(units for one, units in drawings.items() if not one.decodes_next)
    return cells, rows, sum(one.search.activity == "step" for one in searches)
