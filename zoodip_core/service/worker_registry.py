"""Registry of workers: each worker reports every time it polls for jobs, so that dead workers drop out."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from zoodip_core.service.settings import ServiceSettings
from zoodip_core.service.tables import workers

ENGINE_IDLE = "engine_idle_seconds"
"""Gauge in a worker's stats: seconds since its engine thread last polled, stepped or drew."""

_DELETE_AFTER_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """The latest report of a worker process."""

    id: str
    started_at: float
    seen_at: float
    draining: bool
    stats: dict[str, Any]

    @property
    def engine_idle_s(self) -> float:
        """Seconds from the last activity of the engine to this report."""
        return float(self.stats.get("gauges", {}).get(ENGINE_IDLE, 0.0))


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


def ready(connection: Connection, now: float, settings: ServiceSettings) -> list[WorkerRecord]:
    """Return the consuming workers whose engine makes progress.

    A worker reports also while its engine hangs, for example in a driver call. Such a worker finishes no job.
    """
    found = consuming(connection, now, settings.lease_s)
    return [worker for worker in found if worker.engine_idle_s <= settings.unready_after_s]


def awaited(connection: Connection, now: float, settings: ServiceSettings) -> str:
    """Return what the service waits for while no worker is ready."""
    alive = workers.c.seen_at >= now - settings.lease_s
    draining = select(func.count()).where(alive, workers.c.draining)
    if hanging := len(consuming(connection, now, settings.lease_s)):
        return f"an engine: {hanging} without progress for {settings.unready_after_s:g} s"
    if stopping := connection.execute(draining).scalar_one():
        return f"a worker that takes jobs: {stopping} draining"
    return f"a worker: none has reported within {settings.lease_s:g} s"


def last_seen(connection: Connection, id_prefix: str) -> float | None:
    """Return when a worker whose id begins with the prefix last reported, in seconds since 1970; None if never."""
    query = select(func.max(workers.c.seen_at)).where(workers.c.id.startswith(id_prefix, autoescape=True))
    return connection.execute(query).scalar()


def id_prefix(pid: int | None = None) -> str:
    """Return the beginning of the ids of this machine's workers, or of one process's worker."""
    host = f"{socket.gethostname()}-"
    return host if pid is None else f"{host}{pid}-"
