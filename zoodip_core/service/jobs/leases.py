"""Leases: claim jobs by compare-and-set, renew, write under a fencing token, requeue.

Each claim increments the job's `fence`. A worker's writes include the fence of its claim, so a worker whose lease
expired cannot change a job that another worker has claimed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Update, and_, case, func, or_, select, update

from zoodip_core.errors import ZoodipError
from zoodip_core.service.errors import LeaseLostError
from zoodip_core.service.jobs import events, store
from zoodip_core.service.jobs.records import Job, Lease
from zoodip_core.service.jobs.states import SHARED_ATTEMPTS, JobKind, Status, StopRequest
from zoodip_core.service.tables import jobs

_UNCOUNTED = {"attempts": jobs.c.attempts - 1}  # only starts that end with a dead worker count as attempts


def claim(connection: Connection, job_id: str, worker: str, now: float, lease_s: float) -> Job | None:
    """Claim a queued job for a worker: set it to running, with a lease and a new fence.

    Args:
        connection: Write transaction.
        job_id: Id of the job.
        worker: Id of the worker.
        now: Seconds since 1970.
        lease_s: Seconds until the lease expires.

    Returns:
        The running job, or None if the job is not queued, for example because another worker claimed it.
    """
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
    """Return the id of the oldest queued job of a kind, or None. An index keeps this fast for any queue length."""
    query = (
        select(jobs.c.id)
        .where(jobs.c.kind == kind, jobs.c.status == Status.QUEUED)
        .order_by(jobs.c.queued_at, jobs.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)  # on PostgreSQL, concurrent workers lock different rows
    )
    return connection.execute(query).scalar()


def claim_next(connection: Connection, kind: JobKind, worker: str, now: float, lease_s: float) -> Job | None:
    """Claim the oldest queued job of a kind. Returns None if the queue is empty or another worker was faster."""
    job_id = oldest_queued(connection, kind)
    return None if job_id is None else claim(connection, job_id, worker, now, lease_s)


def lease_of(job: Job) -> Lease:
    """Return the lease of a claimed job."""
    return Lease(job_id=job.id, owner=job.lease_owner or "", fence=job.fence)


def runs_alone(job: Job) -> bool:
    """Return whether the worker of a claimed job must run no other job, because this one may kill it."""
    return job.attempts > SHARED_ATTEMPTS


def heartbeat(
    connection: Connection, leases: Iterable[Lease], now: float, lease_s: float
) -> dict[str, StopRequest | None]:
    """Renew the leases that are still valid.

    Returns:
        The job id of each renewed lease, with the client's stop request or None.
    """
    held = [held_by(lease) for lease in leases]
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
    """Poll for stop requests, without renewing the leases.

    Returns:
        The job id of each valid lease, with the client's stop request or None.
    """
    held = [held_by(lease) for lease in leases]
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
    """Write columns of a running job and an event, in the same transaction.

    Args:
        connection: Write transaction.
        lease: The worker's lease of the job.
        now: Seconds since 1970.
        event: Type and data of the event.
        values: New column values.

    Raises:
        LeaseLostError: The worker no longer holds the lease; nothing was written.
    """
    changed = connection.execute(
        update(jobs).where(held_by(lease)).values(**(values or {})) if values else _touch(lease)
    )
    if changed.rowcount == 0:
        raise LeaseLostError()
    if event is not None:
        events.append(connection, lease.job_id, event[0], event[1], now)


def record_checkpoint(connection: Connection, lease: Lease, now: float, step: int, kept: list[int]) -> None:
    """Record a stored checkpoint. If it is ahead of the previous one, earlier attempts are forgotten.

    Args:
        connection: Write transaction.
        lease: The worker's lease of the job.
        now: Seconds since 1970.
        step: Step of the checkpoint.
        kept: Steps of all stored checkpoints, this one last.

    Raises:
        LeaseLostError: The worker no longer holds the lease; nothing was written.
    """
    values = {
        "step": step,
        "checkpoint_step": step,
        "checkpoints": kept,
        "attempts": case((jobs.c.checkpoint_step < step, 1), else_=jobs.c.attempts),
    }
    record(connection, lease, now, event=("checkpoint", {"step": step}), values=values)


def finish(
    connection: Connection,
    lease: Lease,
    target: Status,
    now: float,
    values: Mapping[str, object] | None = None,
) -> Job:
    """Move a running job to the state `target`, end its lease, and return the job.

    Raises:
        LeaseLostError: The worker no longer holds the lease; nothing was written.
    """
    job = store.transition(
        connection, lease.job_id, target, now, sources=frozenset({Status.RUNNING}), lease=lease, values=values
    )
    if job is None:
        raise LeaseLostError()
    return job


def apply_stop_request(connection: Connection, lease: Lease, now: float) -> Job | None:
    """Apply a pending cancel or pause request. Returns None if there is none; the job then continues.

    Raises:
        LeaseLostError: The worker no longer holds the lease; nothing was written.
    """
    row = connection.execute(select(jobs.c.stop_request).where(held_by(lease)).with_for_update()).first()
    if row is None:
        raise LeaseLostError()
    (stop_request,) = row
    if stop_request is None:
        return None
    if stop_request == StopRequest.CANCEL:
        return finish(connection, lease, Status.CANCELLED, now)
    return finish(connection, lease, Status.PAUSED, now, _UNCOUNTED)


def requeue(
    connection: Connection, lease: Lease, now: float, event: tuple[str, dict[str, Any]] | None = None
) -> Job:
    """Requeue a running job, or apply its pending stop request, and return the job. Does not count as an attempt.

    Args:
        connection: Write transaction.
        lease: The worker's lease of the job.
        now: Seconds since 1970.
        event: Type and data of an event that gives the reason.

    Raises:
        LeaseLostError: The worker no longer holds the lease; nothing was written.
    """
    if event is not None:
        record(connection, lease, now, event=event)
    return apply_stop_request(connection, lease, now) or finish(
        connection, lease, Status.QUEUED, now, _UNCOUNTED
    )


def error_of(error: ZoodipError) -> dict[str, Any]:
    """Return an error in the form stored with a job: code, message and retryable."""
    return {"code": error.code, "message": error.message, "retryable": error.retryable}


def held_by(lease: Lease) -> ColumnElement[bool]:
    """Return the condition that a worker still holds the lease."""
    return and_(jobs.c.id == lease.job_id, jobs.c.fence == lease.fence, jobs.c.status == Status.RUNNING)


def _touch(lease: Lease) -> Update:
    return update(jobs).where(held_by(lease)).values(fence=jobs.c.fence)
