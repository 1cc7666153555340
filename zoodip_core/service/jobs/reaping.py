"""Reaping: requeue the jobs of dead workers, and fail a job that keeps killing its worker.

A worker that dies loses all of its jobs, but at most one of them is the cause. A job that was lost
`SHARED_ATTEMPTS` times without a checkpoint in between therefore runs alone. Only a job that was lost alone fails.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, and_, select

from zoodip_core.service.errors import WorkerLostError
from zoodip_core.service.jobs import store
from zoodip_core.service.jobs.leases import error_of, held_by
from zoodip_core.service.jobs.records import Job, Lease, LeaseTerm
from zoodip_core.service.jobs.states import SHARED_ATTEMPTS, Status, StopRequest
from zoodip_core.service.tables import jobs


def terms(connection: Connection) -> list[LeaseTerm]:
    """Return the current lease of every running job, of all workers, in an order that rules out deadlocks."""
    held = select(jobs.c.id, jobs.c.lease_owner, jobs.c.fence, jobs.c.lease_expires_at)
    rows = connection.execute(held.where(jobs.c.lease_expires_at.is_not(None)).order_by(jobs.c.id))
    return [
        LeaseTerm(lease=Lease(job_id=job_id, owner=owner, fence=fence), expires_at=expires_at)
        for job_id, owner, fence, expires_at in rows
    ]


def reap(connection: Connection, expired: Iterable[LeaseTerm], now: float, max_attempts: int) -> list[Job]:
    """Requeue jobs whose lease was not renewed since it was seen with these terms.

    A job with a stop request is cancelled or paused instead. A job that was lost `max_attempts` times while it ran
    alone fails.

    Args:
        connection: Write transaction.
        expired: Leases that have expired. A lease that was renewed in the meantime is left alone.
        now: Seconds since 1970.
        max_attempts: Attempts of a job alone on its worker.

    Returns:
        The changed jobs.
    """
    reaped = (_reap(connection, term, now, max_attempts) for term in expired)
    return [job for job in reaped if job is not None]


def _reap(connection: Connection, term: LeaseTerm, now: float, max_attempts: int) -> Job | None:
    unrenewed = and_(held_by(term.lease), jobs.c.lease_expires_at == term.expires_at)
    row = connection.execute(select(jobs.c.stop_request, jobs.c.attempts).where(unrenewed)).first()
    if row is None:
        return None
    stop_request, attempts = row
    values: dict[str, Any] = {}
    if stop_request is not None:
        target = Status.CANCELLED if stop_request == StopRequest.CANCEL else Status.PAUSED
    elif attempts >= SHARED_ATTEMPTS + max_attempts:
        error = WorkerLostError(
            f"the worker died in each of {attempts} attempts; in the last {max_attempts} it ran no other job"
        )
        target, values = Status.FAILED, {"error": error_of(error)}
    else:
        target = Status.QUEUED
    return store.transition(connection, term.lease.job_id, target, now, condition=unrenewed, values=values)
