"""One step of several personalizations in one forward pass, with an error or None for each."""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog

from worker.engine_protocol import JobEngine
from worker.personalization_job import PersonalizationJob
from worker.stats import Stats
from zoodip_core.errors import ZoodipError
from zoodip_core.service.errors import InternalError

_log = structlog.get_logger("zoodip.worker")


def step_batch(
    engine: JobEngine, stats: Stats, base_model: str, group: Sequence[PersonalizationJob]
) -> Sequence[ZoodipError | None]:
    """Run one step of every search; an unexpected exception becomes the error of each.

    Args:
        engine: runs the step.
        stats: records its duration.
        base_model: base model of all jobs.
        group: one or more unfinished jobs.

    Returns:
        For each job, its error or None.
    """
    started = time.perf_counter()
    errors: Sequence[ZoodipError | None]
    try:
        with stats.stage("step"):
            errors = engine.step(base_model, [one.search for one in group])
    except ZoodipError as failure:  # not even one row fits into memory: no search has moved
        errors = [failure] * len(group)
    except Exception as failure:  # noqa: BLE001 (translated: jobs on other base models must go on)
        _log.exception("step_failed", jobs=[one.job.id for one in group])
        errors = [InternalError(f"the step failed: {type(failure).__name__}")] * len(group)
    rows = sum(one.search.rows_per_step for one in group)
    stats.record_step(base_model, len(group), rows, time.perf_counter() - started)
    return errors
