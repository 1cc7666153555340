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
        self._shares = FairShares(share, overhead_work=engine.overhead_work)

    def run(
        self, personalizations: Sequence[PersonalizationJob], generations: Sequence[GenerationJob]
    ) -> Iterator[tuple[RunningJob, ZoodipError | None]]:
        """Run one iteration; yield each job that has had a turn, with its error or None.

        A job with an error has not advanced. The results of a base model are yielded before the next one runs.
        """
        jobs = {one.drawing: one for one in generations}
        reserved = sum(one.search.cells * one.search.parameters for one in personalizations)
        turns = self._shares.allot(reserved, [*jobs])
        units: dict[RunningJob, int] = dict.fromkeys(personalizations, 1)
        units |= {jobs[drawing]: count for drawing, count in turns}
        by_model = sorted(units, key=lambda one: one.job.base_model)
        for base_model, group in groupby(by_model, key=lambda one: one.job.base_model):
            yield from self._step(base_model, {one: units[one] for one in group})

    def _step(
        self, base_model: str, units: dict[RunningJob, int]
    ) -> Iterator[tuple[RunningJob, ZoodipError | None]]:
        searches = [one for one in units if isinstance(one, PersonalizationJob)]
        drawings = [one for one in units if isinstance(one, GenerationJob)]
        jobs: list[RunningJob] = [*searches, *drawings]
        work = [_work_of(one, units[one]) for one in jobs]
        started = time.perf_counter()
        raised: Sequence[Exception | None]
        try:
            turns = [(one.drawing, units[one]) for one in drawings]
            raised = self._engine.step([one.search for one in searches], turns)
        except Exception as failure:  # noqa: BLE001 (translated: jobs on other base models must go on)
            raised = [failure] * len(jobs)
        errors = [_typed(failure, one) for failure, one in zip(raised, jobs, strict=True)]
        seconds = time.perf_counter() - started
        cells: Counter[str] = Counter()
        for one in work:
            cells[one.stage] += one.cells
        steps = sum(one.stage == "step" for one in work)
        self._stats.record_iteration(base_model, steps, sum(one.rows for one in work), seconds, cells)
        for job, done, error in zip(jobs, work, errors, strict=True):
            if error is None:
                job.meter.add(evaluations=done.rows, seconds=seconds * done.cells / cells.total())
        yield from zip(jobs, errors, strict=True)


def _typed(failure: Exception | None, job: RunningJob) -> ZoodipError | None:
    """Return the error that the user sees; log a defect."""
    if failure is None or isinstance(failure, ZoodipError):
        return failure
    _log.error("step_failed", job=job.job.id, exc_info=failure)
    return InternalError(f"the step failed: {type(failure).__name__}")


class _Work(NamedTuple):
    """Part of one job in an iteration: stage, rows of the U-Net, and latent cells with the decoding of images."""

    stage: str
    rows: int
    cells: int


def _work_of(job: RunningJob, units: int) -> _Work:
    """Return what a job will do. Call it before the step, which moves the job on."""
    if isinstance(job, PersonalizationJob):
        search = job.search
        return _Work(search.activity if search.rows else "decode", search.rows, search.cells)
    cells = units * job.drawing.unit_cells
    return _Work("decode", 0, cells) if job.drawing.decodes_next else _Work("generate", units, cells)
