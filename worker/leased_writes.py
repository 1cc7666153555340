"""Database writes of a worker: each checks the lease, and most retry while the database is unavailable."""

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
    """Writes of one worker under its leases."""

    def __init__(self, database: Database, worker_id: str, lease_s: float) -> None:
        self.database = database
        self.worker_id = worker_id
        self._lease_s = lease_s

    def claim_next(self, kind: JobKind) -> Job | None:
        """Claim the oldest queued job of a kind; None if the queue is empty or the database unavailable."""
        try:
            with self.database.read() as connection:  # mostly empty: check before taking the write lock
                if leases.oldest_queued(connection, kind) is None:
                    return None
            with self.database.write() as connection:
                return leases.claim_next(connection, kind, self.worker_id, time.time(), self._lease_s)
        except DATABASE_UNAVAILABLE:
            return None

    def record_progress(
        self, lease: Lease, event: tuple[str, dict[str, Any]], values: dict[str, Any]
    ) -> None:
        """Record progress once; it is lost if the database is unavailable, and the next progress replaces it.

        Raises:
            LeaseLostError: the lease is lost; nothing was written.
        """
        try:
            with self.database.write() as connection:
                leases.record(connection, lease, time.time(), event=event, values=values)
        except DATABASE_UNAVAILABLE:
            _log.warning("progress_dropped", job_id=lease.job_id)

    def record_checkpoint(self, lease: Lease, step: int, kept: list[int]) -> None:
        """Record a stored checkpoint and the steps of all stored ones, this one last.

        Raises:
            LeaseLostError: the lease is lost; nothing was written.
        """
        self.write_with_retry(lambda c: leases.record_checkpoint(c, lease, time.time(), step, kept))

    def finish(self, lease: Lease, target: Status, values: dict[str, Any] | None = None) -> Job:
        """Move the job to a final or queued state and end the lease.

        Raises:
            LeaseLostError: the lease is lost; nothing was written.
        """
        return self.write_with_retry(lambda c: leases.finish(c, lease, target, time.time(), values))

    def apply_stop_request(self, lease: Lease) -> Job | None:
        """Apply a pending cancel or pause request. Returns None if there is none.

        Raises:
            LeaseLostError: the lease is lost; nothing was written.
        """
        return self.write_with_retry(lambda c: leases.apply_stop_request(c, lease, time.time()))

    def requeue(self, lease: Lease, event: tuple[str, dict[str, Any]] | None = None) -> Job:
        """Return the job to the queue with an event, or apply its pending cancel or pause request.

        Raises:
            LeaseLostError: the lease is lost; nothing was written.
        """
        return self.write_with_retry(lambda c: leases.requeue(c, lease, time.time(), event))

    def write_with_retry(self, write: Callable[[Connection], T]) -> T:
        """Run a write in a transaction, and retry for up to two lease times while the database is unavailable.

        After two lease times another worker may have the lease, so the last error is raised.

        Args:
            write: called with the connection of each attempt; it must be safe to repeat after a lost commit reply.
        """
        end = time.monotonic() + 2 * self._lease_s
        while True:
            try:
                with self.database.write() as connection:
                    return write(connection)
            except DATABASE_UNAVAILABLE:
                if time.monotonic() > end:
                    raise
                _log.warning("database_write_retried")
                time.sleep(_RETRY_EVERY_S)
