"""Snapshots: jobs as their owners see them, with queue positions. One statement reads any number of jobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, case, exists, func, select, tuple_

from zoodip_core.service.jobs.records import Job, JobSnapshot
from zoodip_core.service.jobs.states import JobKind, Status
from zoodip_core.service.pagination import newest_first
from zoodip_core.service.tables import jobs

_earlier = jobs.alias("earlier")
_POSITION = case(
    (
        jobs.c.status == Status.QUEUED,
        select(func.count())
        .select_from(_earlier)
        .where(
            _earlier.c.kind == jobs.c.kind,
            _earlier.c.status == Status.QUEUED,
            tuple_(_earlier.c.queued_at, _earlier.c.id) < tuple_(jobs.c.queued_at, jobs.c.id),
        )
        .scalar_subquery(),
    )
).label("queue_position")
_COLUMNS = [*(jobs.c[name] for name in JobSnapshot._fields if name != _POSITION.name), _POSITION]
# Built once, because status polls run this query more often than all others together.
_BY_IDS = select(*_COLUMNS).where(jobs.c.id.in_(bindparam("ids", expanding=True)))


def snapshots(connection: Connection, job_ids: Collection[str]) -> dict[str, JobSnapshot]:
    """Return the snapshots of the jobs that exist, by id."""
    found = [_snapshot(row) for row in connection.execute(_BY_IDS, {"ids": list(job_ids)}).mappings().all()]
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

    Returns:
        The snapshots, and whether more jobs follow.
    """
    query = select(*_COLUMNS).where(jobs.c.owner == owner, jobs.c.kind == kind)
    if status is not None:
        query = query.where(jobs.c.status == status)
    for name, value in (metadata or {}).items():
        query = query.where(_has_metadata(connection, name, value))
    rows, more = newest_first(connection, query, jobs, after=after, limit=limit)
    return [_snapshot(row) for row in rows], more


def _has_metadata(connection: Connection, name: str, value: str) -> ColumnElement[bool]:
    if connection.dialect.name == "postgresql":
        found: ColumnElement[bool] = jobs.c.metadata[name].as_string() == value
        return found
    # SQLite's JSON paths cannot name each key: a quote in a path has no escape.
    member = func.json_each(jobs.c.metadata).table_valued("key", "value")
    return exists().where(member.c.key == name, member.c.value == value)


def _snapshot(row: Mapping[Any, Any]) -> JobSnapshot:
    values = dict(row)
    values["kind"], values["status"] = JobKind(values["kind"]), Status(values["status"])
    return JobSnapshot(**values)
