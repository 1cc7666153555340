"""Order of the queued jobs, cached, so that the position of a job in a long queue needs no count."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable

from sqlalchemy import Connection, select

from zoodip_core.service.jobs.states import JobKind, Status
from zoodip_core.service.tables import jobs

MAX_AGE_S = 1.0


class QueueOrder:
    """Order of the queued jobs of each kind, at most one second old. Threads can share an instance.

    Args:
        clock_s: Monotonic clock in seconds.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._orders: dict[JobKind, list[tuple[float, str]]] = {}
        self._expires_at: dict[JobKind, float] = {}

    def position(self, connection: Connection, kind: JobKind, queued_at: float, job_id: str) -> int:
        """Return the number of queued jobs ahead of a job, also of one that was queued after the order was read.

        Args:
            connection: Any connection. It reads the order again if that is too old.
            kind: Kind of the job.
            queued_at: When the job was queued, in seconds since 1970.
            job_id: Id of the job.
        """
        now = self._clock_s()
        if now >= self._expires_at.get(kind, 0.0):
            self._expires_at[kind] = (
                now + MAX_AGE_S
            )  # first, so that other threads use the old order meanwhile
            self._orders[kind] = _read(connection, kind)
        order = self._orders.get(kind)
        return bisect_left(_read(connection, kind) if order is None else order, (queued_at, job_id))


def _read(connection: Connection, kind: JobKind) -> list[tuple[float, str]]:
    query = select(jobs.c.queued_at, jobs.c.id).where(jobs.c.kind == kind, jobs.c.status == Status.QUEUED)
    rows = connection.execute(query.order_by(jobs.c.queued_at, jobs.c.id))
    return [(queued_at, job_id) for queued_at, job_id in rows]
