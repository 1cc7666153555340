"""Resume paused jobs, and failed ones whose error is retryable."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, and_, update

from zoodip_core.service.errors import ConflictError
from zoodip_core.service.jobs import store
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.jobs.states import SHARED_ATTEMPTS, Status, StopRequest
from zoodip_core.service.tables import jobs


def resume(connection: Connection, job: Job, now: float) -> Job:
    """Requeue a job, which then continues from its checkpoint, or withdraw a pending pause request.

    A paused job can be resumed, and a failed one if its error is retryable and its data is not deleted.

    Raises:
        ConflictError: The job cannot be resumed.
    """
    current = store.find(connection, job.id)
    changes: dict[str, Any] = {"queued_at": now}
    sources = {Status.PAUSED}
    if is_resumable(current):
        sources.add(Status.FAILED)
        attempts = min(
            current.attempts - 1, SHARED_ATTEMPTS
        )  # a job that was lost often enough still runs alone
        changes |= {"error": None, "finished_at": None, "attempts": attempts}
    moved = store.transition(
        connection, job.id, Status.QUEUED, now, sources=frozenset(sources), values=changes
    )
    if moved is not None:
        return moved
    pausing = and_(
        jobs.c.id == job.id, jobs.c.status == Status.RUNNING, jobs.c.stop_request == StopRequest.PAUSE
    )
    connection.execute(update(jobs).where(pausing).values(stop_request=None))  # its worker goes on
    current = store.find(connection, job.id)
    if current.ended:
        raise ConflictError(f"a {current.status} job cannot be resumed{_why_final(current)}")
    return current


def is_resumable(job: Job) -> bool:
    """Return whether a job failed with a retryable error and can continue, because its data is still stored."""
    return job.error is not None and job.error["retryable"] and job.purged_at is None


def _why_final(job: Job) -> str:
    if job.error is None:
        return ""
    return " after its data was deleted" if job.purged_at else f" after the error {job.error['code']}"
