"""Who may write to a job: claims by compare-and-set, leases with fencing tokens, heartbeats, the reaper.

A claim raises the job's `fence`. Every write of a worker names the fence that it was given, so a worker that
slept past its lease changes nothing after another took over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Update, and_, func, or_, select, update

from zoodip_core.errors import ZoodipError
from zoodip_core.service.errors import LeaseLostError, WorkerLostError
from zoodip_core.service.jobs import events, store
from zoodip_core.service.jobs.records import Job, Lease
from zoodip_core.service.jobs.states import JobKind, Status, StopRequest
from zoodip_core.service.tables import jobs

_ORDERLY = {"attempts": jobs.c.attempts - 1}  # a start that ends in order does not count as an attempt


def claim(connection: Connection, job_id: str, worker: str, now: float, lease_s: float) -> Job | None:
    """The job, now running and this worker's; None if it is not queued (another was faster, or it ended)."""
    return store.transition(
        connection,
        job_id,
        Status.RUNNING,
        now,
        values={
            "lease_owner": worker,
            "lease_expires_at": now + lease_s,
            "fence": jobs.c.fence + 1,
            "attempts": jobs.c.attempts + 1,
            "started_at": func.coalesce(jobs.c.started_at, now),
        },
    )


def oldest_queued(connection: Connection, kind: JobKind) -> str | None:
    """The id of the job of that kind which waits longest. One step in an index, however long the queue."""
    query = (
        select(jobs.c.id)
        .where(jobs.c.kind == kind, jobs.c.status == Status.QUEUED)
        .order_by(jobs.c.queued_at, jobs.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)  # PostgreSQL: racing workers each take another row
    )
    return connection.execute(query).scalar()


def claim_next(connection: Connection, kind: JobKind, worker: str, now: float, lease_s: float) -> Job | None:
    """The job of that kind which waits longest, claimed; None if none waits."""
    job_id = oldest_queued(connection, kind)
    return None if job_id is None else claim(connection, job_id, worker, now, lease_s)


def lease_of(job: Job) -> Lease:
    """The right that a claim gave."""
    return Lease(job_id=job.id, owner=job.lease_owner or "", fence=job.fence)


def heartbeat(
    connection: Connection, leases: Iterable[Lease], now: float, lease_s: float
) -> dict[str, StopRequest | None]:
    """Extends the leases that still hold; their job ids, each with what its client wishes."""
    held = [_held(lease) for lease in leases]
    if not held:
        return {}
    extend = (
        update(jobs)
        .where(or_(*held))
        .values(lease_expires_at=now + lease_s)
        .returning(jobs.c.id, jobs.c.stop_request)
    )
    return {
        job_id: StopRequest(stop_request) if stop_request else None
        for job_id, stop_request in connection.execute(extend)
    }


def stop_requests(connection: Connection, leases: Iterable[Lease]) -> dict[str, StopRequest | None]:
    """The job ids whose leases still hold, each with what its client wishes; extends nothing."""
    held = [_held(lease) for lease in leases]
    if not held:
        return {}
    rows = connection.execute(select(jobs.c.id, jobs.c.stop_request).where(or_(*held)))
    return {job_id: StopRequest(stop_request) if stop_request else None for job_id, stop_request in rows}


def record(
    connection: Connection,
    lease: Lease,
    now: float,
    *,
    event: tuple[str, dict[str, Any]] | None = None,
    values: Mapping[str, object] | None = None,
) -> None:
    """Write columns of a running job, and an event with them.

    Raises:
        LeaseLostError: the job is no longer this worker's; nothing was written.
    """
    changed = connection.execute(
        update(jobs).where(_held(lease)).values(**(values or {})) if values else _touch(lease)
    )
    if changed.rowcount == 0:
        raise LeaseLostError()
    if event is not None:
        events.append(connection, lease.job_id, event[0], event[1], now)


def finish(
    connection: Connection,
    lease: Lease,
    target: Status,
    now: float,
    values: Mapping[str, object] | None = None,
) -> Job:
    """The job in the state in which its worker leaves it.

    Raises:
        LeaseLostError: the job is no longer this worker's; nothing was written.
    """
    job = store.transition(
        connection, lease.job_id, target, now, sources=frozenset({Status.RUNNING}), lease=lease, values=values
    )
    if job is None:
        raise LeaseLostError()
    return job


def apply_stop_request(connection: Connection, lease: Lease, now: float) -> Job | None:
    """The job as its client wishes it now; None if it wishes nothing (any more) and the job goes on.

    Raises:
        LeaseLostError: the job is no longer this worker's; nothing was written.
    """
    row = connection.execute(select(jobs.c.stop_request).where(_held(lease)).with_for_update()).first()
    if row is None:
        raise LeaseLostError()
    (stop_request,) = row
    if stop_request is None:
        return None
    if stop_request == StopRequest.CANCEL:
        return finish(connection, lease, Status.CANCELLED, now)
    return finish(connection, lease, Status.PAUSED, now, _ORDERLY)


def requeue(connection: Connection, lease: Lease, now: float) -> Job:
    """The job queued again by an orderly drain, or as its client wishes it.

    Raises:
        LeaseLostError: the job is no longer this worker's; nothing was written.
    """
    return apply_stop_request(connection, lease, now) or finish(
        connection, lease, Status.QUEUED, now, _ORDERLY
    )


def reap(connection: Connection, now: float, max_attempts: int) -> list[Job]:
    """Jobs whose worker fell silent: queued again, or as a client wished, or failed after too many starts."""
    expired = and_(jobs.c.status == Status.RUNNING, jobs.c.lease_expires_at < now)
    rows = connection.execute(select(jobs.c.id, jobs.c.stop_request, jobs.c.attempts).where(expired)).all()
    reaped = []
    for job_id, stop_request, attempts in rows:
        values: dict[str, Any] = {}
        if stop_request is not None:
            target = Status.CANCELLED if stop_request == StopRequest.CANCEL else Status.PAUSED
        elif attempts >= max_attempts:
            error = WorkerLostError(f"the worker died in each of {attempts} attempts")
            target, values = Status.FAILED, {"error": error_of(error)}
        else:
            target = Status.QUEUED
        job = store.transition(connection, job_id, target, now, condition=expired, values=values)
        if job is not None:
            reaped.append(job)
    return reaped


def error_of(error: ZoodipError) -> dict[str, Any]:
    """A project error as it is stored: {code, message, retryable}."""
    return {"code": error.code, "message": error.message, "retryable": error.retryable}


def _held(lease: Lease) -> ColumnElement[bool]:
    return and_(jobs.c.id == lease.job_id, jobs.c.fence == lease.fence, jobs.c.status == Status.RUNNING)


def _touch(lease: Lease) -> Update:
    return update(jobs).where(_held(lease)).values(fence=jobs.c.fence)
