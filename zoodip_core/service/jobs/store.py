"""Jobs in the database: made, found, and moved from state to state. Every move goes through `move`."""

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

from zoodip_core.service.errors import ConflictError, NotFoundError
from zoodip_core.service.jobs import events, webhooks
from zoodip_core.service.jobs.records import Job, Lease, NewJob, Standing
from zoodip_core.service.jobs.states import ACTIVE, ENDED, TRANSITIONS, Kind, Status, Wish
from zoodip_core.service.tables import jobs

_Found = TypeVar("_Found", Job, Standing)
_FIND = select(jobs).where(jobs.c.id == bindparam("job_id"))
_AT_REST: dict[str, Any] = {"it_per_s": None, "eta_s": None, "lease_owner": None, "lease_expires_at": None}


def add(connection: Connection, new: NewJob, now: float) -> Job:
    """The job, queued."""
    values = {name: getattr(new, name) for name in NewJob.__dataclass_fields__}
    row = connection.execute(
        insert(jobs)
        .values(**values, status=Status.QUEUED, checkpoints=[], queued_at=now, created_at=now)
        .returning(jobs)
    ).mappings()
    job = job_of(row.one())
    events.append(connection, job.id, "status", {"status": Status.QUEUED}, now)
    return job


def find(connection: Connection, job_id: str, *, owner: str | None = None, kind: Kind | None = None) -> Job:
    """The job of that id, if it is the owner's and of that kind.

    Raises:
        NotFoundError: there is none, or it is another's (which must not show).
    """
    row = connection.execute(_FIND, {"job_id": job_id}).mappings().first()
    return check_found(None if row is None else job_of(row), job_id, owner, kind)


def exists(connection: Connection, job_id: str) -> bool:
    """Whether there is such a job, whoever has it."""
    return connection.execute(select(jobs.c.id).where(jobs.c.id == job_id)).first() is not None


def check_found(job: _Found | None, job_id: str, owner: str | None, kind: Kind | None) -> _Found:
    """The job, if it is the owner's and of that kind.

    Raises:
        NotFoundError: there is none, or it is another's (which must not show).
    """
    if job is None or owner not in (None, job.owner) or kind not in (None, job.kind):
        raise NotFoundError(f"no {kind or 'job'} {job_id}")
    return job


def count_active(connection: Connection, owner: str | None = None) -> int:
    """Unfinished jobs of one owner, or of all."""
    query = select(func.count()).where(jobs.c.status.in_(ACTIVE), jobs.c.kind.in_(list(Kind)))
    return connection.execute(query if owner is None else query.where(jobs.c.owner == owner)).scalar_one()


def count_by_status(connection: Connection) -> dict[tuple[str, str], int]:
    """Jobs by (kind, status)."""
    query = select(jobs.c.kind, jobs.c.status, func.count()).group_by(jobs.c.kind, jobs.c.status)
    return {(kind, status): number for kind, status, number in connection.execute(query)}


def move(
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
    """The job in its new state, or None if it was in none from which it may go there (nothing changes then).

    One UPDATE compares and sets, so of two that race one wins. With a `lease` the job must also still be that
    worker's. The event and, at the end, the webhook's delivery are written in the same transaction.
    """
    legal = frozenset(source for source, targets in TRANSITIONS.items() if target in targets)
    where = [jobs.c.id == job_id, jobs.c.status.in_(legal if sources is None else sources & legal)]
    if lease is not None:
        where.append(jobs.c.fence == lease.fence)
    if condition is not None:
        where.append(condition)
    change = {"status": target, **_settle(target, now), **(values or {})}
    row = connection.execute(update(jobs).where(*where).values(**change).returning(jobs)).mappings().first()
    if row is None:
        return None
    job = job_of(row)
    data: dict[str, Any] = {"status": target}
    if job.error is not None:
        data["error"] = job.error
    events.append(connection, job_id, "status", data, now)
    if job.ended:
        webhooks.announce(connection, job, now)
    return job


def _settle(target: Status, now: float) -> dict[str, Any]:
    """What every arrival in a state sets."""
    if target in ENDED:
        return {**_AT_REST, "finished_at": now, "wish": None}
    if target in (Status.QUEUED, Status.PAUSED):  # what ran since the checkpoint is to be done again
        return {**_AT_REST, "step": jobs.c.checkpoint_step, "wish": None}
    return {}


def cancel(connection: Connection, job: Job, now: float) -> Job:
    """The job cancelled, or, while it runs, with the wish that its worker obeys between two steps."""
    return _ask(connection, job, Wish.CANCEL, Status.CANCELLED, now)


def pause(connection: Connection, job: Job, now: float) -> Job:
    """The job paused, or, while it runs, with the wish to be.

    Raises:
        ConflictError: it has ended.
    """
    return _ask(connection, job, Wish.PAUSE, Status.PAUSED, now)


def _ask(connection: Connection, job: Job, wish: Wish, target: Status, now: float) -> Job:
    moved = move(connection, job.id, target, now, sources=frozenset({Status.QUEUED, Status.PAUSED}))
    if moved is not None:
        return moved
    wished = case((jobs.c.wish == Wish.CANCEL, jobs.c.wish), else_=wish.value)  # a cancel is not taken back
    running = and_(jobs.c.id == job.id, jobs.c.status == Status.RUNNING)
    row = (
        connection.execute(update(jobs).where(running).values(wish=wished).returning(jobs)).mappings().first()
    )
    now_is = find(connection, job.id) if row is None else job_of(row)
    if row is None and now_is.status != target and not (wish == Wish.CANCEL and now_is.ended):
        raise ConflictError(f"a job that is {now_is.status} cannot be {target}")
    return now_is


def resume(connection: Connection, job: Job, now: float) -> Job:
    """The job queued again, to go on at its checkpoint.

    Raises:
        ConflictError: it has ended.
    """
    moved = move(
        connection, job.id, Status.QUEUED, now, sources=frozenset({Status.PAUSED}), values={"queued_at": now}
    )
    if moved is not None:
        return moved
    running = and_(jobs.c.id == job.id, jobs.c.status == Status.RUNNING, jobs.c.wish == Wish.PAUSE)
    connection.execute(update(jobs).where(running).values(wish=None))  # it had not yet stopped
    now_is = find(connection, job.id)
    if now_is.ended:
        raise ConflictError(f"a job that is {now_is.status} cannot be resumed")
    return now_is


def remove(connection: Connection, job: Job) -> None:
    """Delete an ended job with its events and deliveries.

    Raises:
        ConflictError: it has not ended.
    """
    check_ended(job)
    connection.execute(delete(jobs).where(jobs.c.id == job.id, jobs.c.status.in_(ENDED)))


def check_ended(job: Job) -> None:
    """Nothing, if the job may be deleted: an end is final.

    Raises:
        ConflictError: it has not ended.
    """
    if not job.ended:
        raise ConflictError(f"a job that is {job.status} cannot be deleted; cancel it first")


def job_of(row: Mapping[Any, Any]) -> Job:
    """The row as a frozen object."""
    values = dict(row)
    values["kind"], values["status"] = Kind(values["kind"]), Status(values["status"])
    if values["wish"] is not None:
        values["wish"] = Wish(values["wish"])
    return Job(**values)
