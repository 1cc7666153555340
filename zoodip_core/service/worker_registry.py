"""Workers that consume: each says so at every look for work, so a silent one does not count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from zoodip_core.service.tables import workers

FORGET_AFTER_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """A worker process as it last described itself."""

    id: str
    started_at: float
    seen_at: float
    draining: bool
    stats: dict[str, Any]


def report(
    connection: Connection, worker_id: str, now: float, *, draining: bool, stats: dict[str, Any]
) -> None:
    """Say that this worker has just looked for work."""
    values = {"seen_at": now, "draining": draining, "stats": stats}
    changed = connection.execute(update(workers).where(workers.c.id == worker_id).values(**values))
    if changed.rowcount == 0:
        connection.execute(insert(workers).values(id=worker_id, started_at=now, **values))
        connection.execute(delete(workers).where(workers.c.seen_at < now - FORGET_AFTER_S))


def deregister(connection: Connection, worker_id: str) -> None:
    """Say goodbye."""
    connection.execute(delete(workers).where(workers.c.id == worker_id))


def consuming(connection: Connection, now: float, within_s: float) -> list[WorkerRecord]:
    """Workers that looked for work within the last `within_s` seconds and take more."""
    query = select(workers).where(workers.c.seen_at >= now - within_s, workers.c.draining.is_(False))
    return [WorkerRecord(**row) for row in connection.execute(query.order_by(workers.c.id)).mappings()]
