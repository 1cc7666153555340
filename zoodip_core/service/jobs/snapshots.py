"""Jobs as their owners look at them: each with its place in the queue, however many in one statement."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, case, func, select, tuple_

from zoodip_core.service.jobs.records import Job, Standing
from zoodip_core.service.jobs.states import Kind, Status
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
_SEEN = [*(jobs.c[name] for name in Standing._fields if name != _POSITION.name), _POSITION]
# Built once: status polls ask this more often than all others together.
_OF_IDS = select(*_SEEN).where(jobs.c.id.in_(bindparam("ids", expanding=True)))


def standings(connection: Connection, job_ids: Collection[str]) -> dict[str, Standing]:
    """Where those of the jobs stand that there are, by id."""
    found = [_standing(row) for row in connection.execute(_OF_IDS, {"ids": list(job_ids)}).mappings().all()]
    return {standing.id: standing for standing in found}


def standing(connection: Connection, job: Job) -> Standing:
    """Where the job stands now."""
    return standings(connection, [job.id])[job.id]


def list_page(
    connection: Connection,
    owner: str,
    kind: Kind,
    *,
    after: str | None = None,
    limit: int = 20,
    status: Status | None = None,
    metadata: dict[str, str] | None = None,
) -> tuple[list[Standing], bool]:
    """The owner's jobs, newest first, from below the id `after`; and whether there are more."""
    query = select(*_SEEN).where(jobs.c.owner == owner, jobs.c.kind == kind)
    if status is not None:
        query = query.where(jobs.c.status == status)
    for name, value in (metadata or {}).items():
        query = query.where(jobs.c.metadata[name].as_string() == value)
    rows, more = newest_first(connection, query, jobs, after=after, limit=limit)
    return [_standing(row) for row in rows], more


def _standing(row: Mapping[Any, Any]) -> Standing:
    values = dict(row)
    values["kind"], values["status"] = Kind(values["kind"]), Status(values["status"])
    return Standing(**values)
