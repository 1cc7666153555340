"""Database writes of a worker: each checks the lease, and most retry while the database is unavailable."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import InterfaceError, OperationalError

from worker.usage_meter import UsageMeter
from zoodip_core.service.database import Database
from zoodip_core.service.jobs import leases
from zoodip_core.service.jobs.records import Job, Lease
from zoodip_core.service.jobs.states import JobKind, Status

T = TypeVar("T")

DATABASE_UNAVAILABLE = (OperationalError, InterfaceError)
_RETRY_EVERY_S = 0.5

_log = structlog.get_logger("zoodip.worker")


class LeasedWriter:
    """Writes of one worker under its leases. Each write of a job with a meter also writes what the job has used."""

    def __init__(self, database: Database, worker_id: str, lease_s: float) -> None:
        self.database = database
        self.worker_id = worker_id
        self._lease_s = lease_s
        self._meters: WeakValueDictionary[Lease, UsageMeter] = WeakValueDictionary()

    def start_meter(self, job: Job) -> UsageMeter:
        """Return the meter of a claimed job. The caller keeps it for as long as it runs the job."""
        meter = self._meters[leases.lease_of(job)] = UsageMeter(job)
        return meter

    def meter(self, lease: Lease) -> UsageMeter:
        """Return the meter of a job that runs."""
        return self._meters[lease]

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
            self._write(lease, lambda c: leases.record(c, lease, time.time(), event=event, values=values))
        except DATABASE_UNAVAILABLE:
            _log.warning("progress_dropped", job_id=lease.job_id)

    def record_checkpoint(self, lease: Lease, step: int, kept: list[int]) -> None:
        """Record a stored checkpoint and the steps of all stored ones, this one last.

        Raises:
            LeaseLostError: the lease is lost; nothing was written.
        """
        self.write_with_retry(lease, lambda c: leases.record_checkpoint(c, lease, time.time(), step, kept))

    def finish(self, lease: Lease, target: Status, values: dict[str, Any] | None = None) -> Job:
        """Move the job to a final or queued state and end the lease.

        Raises:
            LeaseLostError: the lease is lost; nothing was written.
        """
        return self.write_with_retry(lease, lambda c: leases.finish(c, lease, target, time.time(), values))

    def apply_stop_request(self, lease: Lease) -> Job | None:
        """Apply a pending cancel or pause request. Returns None if there is none.

        Raises:
            LeaseLostError: the lease is lost; nothing was written.
        """
        return self.write_with_retry(lease, lambda c: leases.apply_stop_request(c, lease, time.time()))

    def requeue(self, lease: Lease, event: tuple[str, dict[str, Any]] | None = None) -> Job:
        """Return the job to the queue with an event, or apply its pending cancel or pause request.

        Raises:
            LeaseLostError: the lease is lost; nothing was written.
        """
        return self.write_with_retry(lease, lambda c: leases.requeue(c, lease, time.time(), event))

    def write_with_retry(self, lease: Lease, write: Callable[[Connection], T]) -> T:
        """Run a write of a job, and retry for up to two lease times while the database is unavailable.

        After two lease times another worker may have the lease, so the error of an attempt that begins later is
        raised. An attempt that outlasts this time is repeated once: this process may have been suspended in it.

        Args:
            lease: lease of the job.
            write: called with the connection of each attempt; it must be safe to repeat after a lost commit reply.
        """
        end = time.monotonic() + 2 * self._lease_s
        while True:
            began_at = time.monotonic()
            try:
                return self._write(lease, write)
            except DATABASE_UNAVAILABLE:
                if began_at > end:
                    raise
                _log.warning("database_write_retried")
                time.sleep(_RETRY_EVERY_S)

    def _write(self, lease: Lease, write: Callable[[Connection], T]) -> T:
        meter = self._meters.get(lease)
        with self.database.write() as connection:
            if meter is not None:
                meter.write(connection, lease, time.time())
            result = write(connection)
        if meter is not None:
            meter.mark_written()
        return result
