"""Services that all jobs of a worker share: writes under leases, objects, settings and stats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from worker.leased_writes import LeasedWriter
from worker.stats import Stats
from worker.storage_retries import RetryingObjectStore
from zoodip_core.service.jobs.records import Lease
from zoodip_core.service.settings import ServiceSettings


class JobStopped(Exception):  # noqa: N818 (a control signal, not an error)
    """A stop request or a drain ends the work on a job. The job is requeued, cancelled or paused."""


@dataclass(frozen=True)
class JobContext:
    """Services of a worker for its jobs.

    Attributes:
        writer: database writes under leases.
        objects: object store that retries.
        settings: settings of the service.
        stats: counters and durations.
        stay_active: called while a job waits. Raises JobStopped or LeaseLostError if the wait must end.
    """

    writer: LeasedWriter
    objects: RetryingObjectStore
    settings: ServiceSettings
    stats: Stats
    stay_active: Callable[[Lease], None]

    def put(self, lease: Lease, name: str, content: bytes) -> None:
        """Store an object of a job, and count its size.

        Raises:
            StorageError: the object store fails for longer than the worker retries.
            JobStopped: a stop request or a drain ended the wait for the object store.
            LeaseLostError: the lease was lost during the wait.
        """
        self.objects.put(name, content, partial(self.stay_active, lease))
        self.writer.meter(lease).record_put(name, len(content))

    def get(self, lease: Lease, name: str) -> bytes:
        """Return an object of a job.

        Raises:
            NotFoundError: the object does not exist.
            StorageError: the object store fails for longer than the worker retries.
            JobStopped: a stop request or a drain ended the wait for the object store.
            LeaseLostError: the lease was lost during the wait.
        """
        return self.objects.get(name, partial(self.stay_active, lease))
