"""Job store: create, find and delete jobs, and change their state. `transition` makes every change of state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    update,
)

from zoodip_core.service import stored_objects
from zoodip_core.service.errors import ConflictError, NotFoundError
from zoodip_core.service.jobs import events, webhooks
from zoodip_core.service.jobs.records import Job, JobSnapshot, Lease, NewJob
from zoodip_core.service.jobs.states import ACTIVE, ENDED, TRANSITIONS, JobKind, Status, StopRequest
from zoodip_core.service.tables import jobs

_Found = TypeVar("_Found", Job, JobSnapshot)
_FIND = select(jobs).where(jobs.c.id == bindparam("job_id"))
_NOT_RUNNING: dict[str, Any] = {
    "it_per_s": None,
    "eta_s": None,
    "lease_owner": None,
    "lease_expires_at": None,
}


def add(connection: Connection, new: NewJob, now: float) -> Job:
    """Create a queued job and return it."""
    values = {name: getattr(new, name) for name in NewJob.__dataclass_fields__}
    row = connection.execute(
        insert(jobs)
        .values(**values, status=Status.QUEUED, checkpoints=[], queued_at=now, created_at=now)
        .returning(jobs)
    ).mappings()
    job = job_of(row.one())
    events.append(connection, job.id, "status", {"status": Status.QUEUED}, now)
    return job


def find(
    connection: Connection, job_id: str, *, owner: str | None = None, kind: JobKind | None = None
) -> Job:
    """Return the job with this id.

    Args:
        connection: Any connection.
        job_id: Id of the job.
        owner: Required owner; None for any.
        kind: Required kind; None for any.

    Raises:
        NotFoundError: The job does not exist, or has another owner or kind. Both cases look alike to clients.
    """
    row = connection.execute(_FIND, {"job_id": job_id}).mappings().first()
    return check_found(None if row is None else job_of(row), job_id, owner, kind)


def exists(connection: Connection, job_id: str) -> bool:
    """Return whether the job exists, for any owner."""
    return connection.execute(select(jobs.c.id).where(jobs.c.id == job_id)).first() is not None


def check_found(job: _Found | None, job_id: str, owner: str | None, kind: JobKind | None) -> _Found:
    """Validate that a job was found and has the required owner and kind; return it.

    Raises:
        NotFoundError: The job does not exist, or has another owner or kind. Both cases look alike to clients.
    """
    if job is None or owner not in (None, job.owner) or kind not in (None, job.kind):
        raise NotFoundError(f"{kind or 'job'} {job_id} does not exist")
    return job


def count_active(connection: Connection, owner: str | None = None) -> int:
    """Return the number of unfinished jobs of one owner, or of all owners."""
    query = select(func.count()).where(jobs.c.status.in_(ACTIVE), jobs.c.kind.in_(list(JobKind)))
    return connection.execute(query if owner is None else query.where(jobs.c.owner == owner)).scalar_one()


def count_queued(connection: Connection, kind: JobKind) -> int:
    """Return the number of queued jobs of this kind, of all owners."""
    query = select(func.count()).where(jobs.c.status == Status.QUEUED, jobs.c.kind == kind)
    return connection.execute(query).scalar_one()


def count_by_status(connection: Connection) -> dict[tuple[str, str], int]:
    """Return the number of jobs by (kind, status)."""
    query = select(jobs.c.kind, jobs.c.status, func.count()).group_by(jobs.c.kind, jobs.c.status)
    return {(kind, status): number for kind, status, number in connection.execute(query)}


def transition(
    connection: Connection,
    job_id: str,
    target: Status,
    now: float,
    *,
    sources: frozenset[Status] | None = None,
    lease: Lease | None = None,
    condition: ColumnElement[bool] | None = None,
    values: Mapping[str, object] | None = None,
) -> Job | None:
    """Move a job to the state `target` if the transition is legal.

    One UPDATE compares and sets the state, so only one of two concurrent transitions succeeds. The same transaction
    writes the event and, for a final state, the webhook delivery.

    Args:
        connection: Write transaction.
        job_id: Id of the job.
        target: The new state.
        now: Seconds since 1970.
        sources: Allowed current states; None for all legal ones.
        lease: If given, its worker must still hold the job.
        condition: Additional condition on the row.
        values: Other columns to set.

    Returns:
        The job in its new state, or None if the conditions do not hold and nothing changed.
    """
    legal = frozenset(source for source, targets in TRANSITIONS.items() if target in targets)
    where = [jobs.c.id == job_id, jobs.c.status.in_(legal if sources is None else sources & legal)]
    if lease is not None:
        where.append(jobs.c.fence == lease.fence)
    if condition is not None:
        where.append(condition)
    change = {"status": target, **_columns_of(target, now), **(values or {})}
    row = connection.execute(update(jobs).where(*where).values(**change).returning(jobs)).mappings().first()
    if row is None:
        return None
    job = job_of(row)
    data: dict[str, Any] = {"status": target}
    if job.error is not None:
        data["error"] = job.error
    events.append(connection, job_id, "status", data, now)
    if job.ended:
        webhooks.enqueue(connection, job, now)
    return job


def _columns_of(target: Status, now: float) -> dict[str, Any]:
    """Return the columns that every transition to a state sets."""
    if target in ENDED:
        return {**_NOT_RUNNING, "finished_at": now, "stop_request": None}
    if target in (Status.QUEUED, Status.PAUSED):  # steps after the checkpoint will run again
        return {**_NOT_RUNNING, "step": jobs.c.checkpoint_step, "stop_request": None}
    return {}


def cancel(connection: Connection, job: Job, now: float) -> Job:
    """Cancel a job. If it is running, record a stop request, which its worker applies between two steps."""
    return _request_stop(connection, job, StopRequest.CANCEL, Status.CANCELLED, now)


def pause(connection: Connection, job: Job, now: float) -> Job:
    """Pause a job. If it is running, record a stop request, which its worker applies between two steps.

    Raises:
        ConflictError: The job has ended.
    """
    return _request_stop(connection, job, StopRequest.PAUSE, Status.PAUSED, now)


def _request_stop(
    connection: Connection, job: Job, stop_request: StopRequest, target: Status, now: float
) -> Job:
    moved = transition(connection, job.id, target, now, sources=frozenset({Status.QUEUED, Status.PAUSED}))
    if moved is not None:
        return moved
    is_cancelled = jobs.c.stop_request == StopRequest.CANCEL  # final: a pause cannot replace it
    requested = case((is_cancelled, jobs.c.stop_request), else_=stop_request.value)
    running = and_(jobs.c.id == job.id, jobs.c.status == Status.RUNNING)
    query = update(jobs).where(running).values(stop_request=requested).returning(jobs)
    row = connection.execute(query).mappings().first()
    current = find(connection, job.id) if row is None else job_of(row)
    is_done = current.status == target or (stop_request == StopRequest.CANCEL and current.ended)
    if row is None and not is_done:
        raise ConflictError(f"a {current.status} job cannot be {target}")
    return current


def remove(connection: Connection, job: Job) -> None:
    """Delete an ended job with its events and webhook deliveries.

    Raises:
        ConflictError: The job has not ended.
    """
    check_ended(job)
    connection.execute(delete(jobs).where(jobs.c.id == job.id, jobs.c.status.in_(ENDED)))
    stored_objects.remove_of(connection, job.id)


def check_ended(job: Job) -> None:
    """Validate that the job has ended, so that it can be deleted.

    Raises:
        ConflictError: The job has not ended.
    """
    if not job.ended:
        raise ConflictError(f"a {job.status} job cannot be deleted; cancel it first")


def job_of(row: Mapping[Any, Any]) -> Job:
    """Return a row as a `Job`."""
    values = dict(row)
    stop_request = values.pop("wish")  # rows name columns as the database does
    return Job(
        **values | {"kind": JobKind(values["kind"]), "status": Status(values["status"])},
        stop_request=None if stop_request is None else StopRequest(stop_request),
    )
