"""Registry of workers: each worker reports every time it polls for jobs, so that dead workers drop out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from zoodip_core.service.tables import workers

_DELETE_AFTER_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """The latest report of a worker process."""

    id: str
    started_at: float
    seen_at: float
    draining: bool
    stats: dict[str, Any]


def report(
    connection: Connection, worker_id: str, now: float, *, draining: bool, stats: dict[str, Any]
) -> None:
    """Record that a worker is alive; delete workers that have not reported for a day.

    Args:
        connection: Write transaction.
        worker_id: Id of the worker process.
        now: Seconds since 1970.
        draining: Whether the worker has stopped claiming jobs.
        stats: Metrics of the worker, for `/metrics`.
    """
    values = {"seen_at": now, "draining": draining, "stats": stats}
    changed = connection.execute(update(workers).where(workers.c.id == worker_id).values(**values))
    if changed.rowcount == 0:
        connection.execute(insert(workers).values(id=worker_id, started_at=now, **values))
        connection.execute(delete(workers).where(workers.c.seen_at < now - _DELETE_AFTER_S))


def deregister(connection: Connection, worker_id: str) -> None:
    """Remove a worker that shuts down."""
    connection.execute(delete(workers).where(workers.c.id == worker_id))


def consuming(connection: Connection, now: float, within_s: float) -> list[WorkerRecord]:
    """Return the workers that reported within the last `within_s` seconds and are not draining."""
    query = select(workers).where(workers.c.seen_at >= now - within_s, workers.c.draining.is_(False))
    return [WorkerRecord(**row) for row in connection.execute(query.order_by(workers.c.id)).mappings()]
