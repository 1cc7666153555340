"""Event log of each job. An event is written in the transaction of the change that it describes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, insert, select

from zoodip_core.service.database import mark_changed
from zoodip_core.service.jobs.records import Event
from zoodip_core.service.tables import events


def append(connection: Connection, job_id: str, type_: str, data: dict[str, Any], now: float) -> None:
    """Append an event to the log of a job, and notify its watchers after the commit.

    Args:
        connection: Write transaction of the change that the event describes.
        job_id: Id of the job.
        type_: Type of the event, such as `status` or `progress`.
        data: Content of the event, as JSON.
        now: Seconds since 1970.
    """
    connection.execute(insert(events).values(job_id=job_id, type=type_, data=data, created_at=now))
    mark_changed(connection, job_id)


def after(connection: Connection, job_id: str, last_id: int = 0, limit: int = 500) -> list[Event]:
    """Return at most `limit` events of the job with an id above `last_id`, oldest first."""
    query = (
        select(events)
        .where(events.c.job_id == job_id, events.c.id > last_id)
        .order_by(events.c.id)
        .limit(limit)
    )
    return [Event(**row) for row in connection.execute(query).mappings()]


def newest(
    connection: Connection, job_id: str, *, before: int | None = None, type_: str | None = None, limit: int
) -> list[Event]:
    """Return at most `limit` events of the job, newest first.

    Args:
        connection: Any connection.
        job_id: Id of the job.
        before: Only events with a lower id.
        type_: Only events of this type.
        limit: Largest number of events to return.
    """
    query = select(events).where(events.c.job_id == job_id).order_by(events.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(events.c.id < before)
    if type_ is not None:
        query = query.where(events.c.type == type_)
    return [Event(**row) for row in connection.execute(query).mappings()]


def delete_for_job(connection: Connection, job_id: str) -> None:
    """Delete all events of the job."""
    connection.execute(delete(events).where(events.c.job_id == job_id))
