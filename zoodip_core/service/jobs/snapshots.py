"""Snapshots: jobs as their owners see them, with queue positions. One statement reads any number of jobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    bindparam,
    case,
    exists,
    func,
    select,
    tuple_,
    union_all,
)

from zoodip_core.service.jobs.queue_order import QueueOrder
from zoodip_core.service.jobs.records import Job, JobSnapshot
from zoodip_core.service.jobs.states import JobKind, Status
from zoodip_core.service.pagination import newest_first
from zoodip_core.service.tables import jobs

EXACT_POSITIONS = 100
"""Number of jobs at the front of a queue whose positions are always read; those behind may use a `QueueOrder`."""

_COLUMNS = [
    *(jobs.c[name] for name in JobSnapshot._fields if name != "queue_position"),
    jobs.c.queued_at,
]


def _select_counted() -> Select[Any]:
    """Return the query of snapshots that counts the jobs ahead of each job."""
    earlier = jobs.alias("earlier")
    count = (
        select(func.count())
        .select_from(earlier)
        .where(
            earlier.c.kind == jobs.c.kind,
            earlier.c.status == Status.QUEUED,
            tuple_(earlier.c.queued_at, earlier.c.id) < tuple_(jobs.c.queued_at, jobs.c.id),
        )
        .scalar_subquery()
    )
    return select(*_COLUMNS, case((jobs.c.status == Status.QUEUED, count)).label("queue_position"))


def _select_from_front() -> Select[Any]:
    """Return the query of snapshots that numbers the front of each queue, once for all rows of the result.

    The position is null behind the front.
    """
    front = union_all(*(_numbered_front(kind) for kind in JobKind)).subquery("front")
    numbered = jobs.outerjoin(front, front.c.id == jobs.c.id)
    return select(*_COLUMNS, front.c.position.label("queue_position")).select_from(numbered)


def _numbered_front(kind: JobKind) -> Select[tuple[str, int]]:
    first = (
        select(jobs.c.id, jobs.c.queued_at)
        .where(jobs.c.kind == kind, jobs.c.status == Status.QUEUED)
        .order_by(jobs.c.queued_at, jobs.c.id)
        .limit(EXACT_POSITIONS)
        .subquery(f"first_{kind}")
    )
    number = func.row_number().over(order_by=(first.c.queued_at, first.c.id))
    return select(first.c.id, (number - 1).label("position"))


# Built once, because status polls run them more often than all others together.
_COUNTED, _FROM_FRONT = _select_counted(), _select_from_front()
_BY_IDS = jobs.c.id.in_(bindparam("ids", expanding=True))
_COUNTED_BY_IDS, _FROM_FRONT_BY_IDS = _COUNTED.where(_BY_IDS), _FROM_FRONT.where(_BY_IDS)


def snapshots(
    connection: Connection, job_ids: Collection[str], queue_order: QueueOrder | None = None
) -> dict[str, JobSnapshot]:
    """Return the snapshots of the jobs that exist, by id.

    Args:
        connection: Any connection.
        job_ids: Ids of the jobs.
        queue_order: Gives the positions in a long queue; None counts them, which takes longer in a longer queue.
    """
    query = _COUNTED_BY_IDS if queue_order is None else _FROM_FRONT_BY_IDS
    rows = connection.execute(query, {"ids": list(job_ids)}).mappings().all()
    found = [_snapshot(connection, row, queue_order) for row in rows]
    return {snapshot.id: snapshot for snapshot in found}


def snapshot(connection: Connection, job: Job) -> JobSnapshot:
    """Return the current snapshot of a job."""
    return snapshots(connection, [job.id])[job.id]


def list_page(
    connection: Connection,
    owner: str,
    kind: JobKind,
    *,
    after: str | None = None,
    limit: int = 20,
    status: Status | None = None,
    metadata: dict[str, str] | None = None,
    queue_order: QueueOrder | None = None,
) -> tuple[list[JobSnapshot], bool]:
    """Return one page of the owner's jobs, newest first.

    Args:
        connection: Any connection.
        owner: Whose jobs.
        kind: Kind of the jobs.
        after: Id of the last job of the previous page.
        limit: Largest number of jobs to return.
        status: Only jobs in this state.
        metadata: Only jobs with these metadata values.
        queue_order: Gives the positions in a long queue; None counts them.

    Returns:
        The snapshots, and whether more jobs follow.
    """
    query = (_COUNTED if queue_order is None else _FROM_FRONT).where(
        jobs.c.owner == owner, jobs.c.kind == kind
    )
    if status is not None:
        query = query.where(jobs.c.status == status)
    for name, value in (metadata or {}).items():
        query = query.where(_has_metadata(connection, name, value))
    rows, more = newest_first(connection, query, jobs, after=after, limit=limit)
    return [_snapshot(connection, row, queue_order) for row in rows], more


def _has_metadata(connection: Connection, name: str, value: str) -> ColumnElement[bool]:
    if connection.dialect.name == "postgresql":
        found: ColumnElement[bool] = jobs.c.metadata[name].as_string() == value
        return found
    # SQLite's JSON paths cannot name each key: a quote in a path has no escape.
    member = func.json_each(jobs.c.metadata).table_valued("key", "value")
    return exists().where(member.c.key == name, member.c.value == value)


def _snapshot(connection: Connection, row: Mapping[Any, Any], queue_order: QueueOrder | None) -> JobSnapshot:
    values = dict(row)
    values["kind"], values["status"] = JobKind(values["kind"]), Status(values["status"])
    queued_at = values.pop("queued_at")
    is_behind_front = values["status"] == Status.QUEUED and values["queue_position"] is None
    if queue_order is not None and is_behind_front:
        position = queue_order.position(connection, values["kind"], queued_at, values["id"])
        values["queue_position"] = max(EXACT_POSITIONS, position)
    return JobSnapshot(**values)
