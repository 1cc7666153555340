"""What a worker writes to the database, each write under its lease; a database that is away is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import InterfaceError, OperationalError

from zoodip_core.service.database import Database
from zoodip_core.service.jobs import leases
from zoodip_core.service.jobs.records import Job, Lease
from zoodip_core.service.jobs.states import JobKind, Status

T = TypeVar("T")

DATABASE_UNAVAILABLE = (OperationalError, InterfaceError)
_RETRY_EVERY_S = 0.5

_log = structlog.get_logger("zoodip.worker")


class LeasedWriter:
    """One worker's writes."""

    def __init__(self, database: Database, worker_id: str, lease_s: float) -> None:
        self.database = database
        self.worker_id = worker_id
        self._lease_s = lease_s

    def claim_next(self, kind: JobKind) -> Job | None:
        """The job of that kind that waits longest, now ours; None if none waits or the database is away."""
        try:
            with self.database.read() as connection:  # nothing waits, mostly: look before taking the lock
                if leases.oldest_queued(connection, kind) is None:
                    return None
            with self.database.write() as connection:
                return leases.claim_next(connection, kind, self.worker_id, time.time(), self._lease_s)
        except DATABASE_UNAVAILABLE:
            return None

    def record_progress(
        self, lease: Lease, event: tuple[str, dict[str, Any]], values: dict[str, Any]
    ) -> None:
        """Record progress; if the database is away this news is dropped, the next will come.

        Raises:
            LeaseLostError: the job is not ours any more.
        """
        try:
            with self.database.write() as connection:
                leases.record(connection, lease, time.time(), event=event, values=values)
        except DATABASE_UNAVAILABLE:
            _log.warning("progress_dropped", job_id=lease.job_id)

    def record(self, lease: Lease, event: tuple[str, dict[str, Any]], values: dict[str, Any]) -> None:
        """Record what must not be lost, such as a checkpoint.

        Raises:
            LeaseLostError: the job is not ours any more.
        """
        self.write_with_retry(lambda c: leases.record(c, lease, time.time(), event=event, values=values))

    def finish(self, lease: Lease, target: Status, values: dict[str, Any] | None = None) -> Job:
        """The job in the state in which we leave it.

        Raises:
            LeaseLostError: the job is not ours any more.
        """
        return self.write_with_retry(lambda c: leases.finish(c, lease, target, time.time(), values))

    def apply_stop_request(self, lease: Lease) -> Job | None:
        """The job as its client wishes it; None if it wishes nothing any more.

        Raises:
            LeaseLostError: the job is not ours any more.
        """
        return self.write_with_retry(lambda c: leases.apply_stop_request(c, lease, time.time()))

    def requeue(self, lease: Lease) -> Job:
        """The job queued for another worker, or as its client wishes it.

        Raises:
            LeaseLostError: the job is not ours any more.
        """
        return self.write_with_retry(lambda c: leases.requeue(c, lease, time.time()))

    def write_with_retry(self, write: Callable[[Connection], T]) -> T:
        """Do the write, waiting up to two leases for a database that is away.

        After that the lease is another worker's to take, so the last error is raised.
        """
        end = time.monotonic() + 2 * self._lease_s
        while True:
            try:
                with self.database.write() as connection:
                    return write(connection)
            except DATABASE_UNAVAILABLE:
                if time.monotonic() > end:
                    raise
                _log.warning("write_waits_for_database")
                time.sleep(_RETRY_EVERY_S)
