"""Thread-safe registry of held leases, shared by the engine thread and the heartbeat thread."""

from __future__ import annotations

import threading

from zoodip_core.service.jobs.records import Lease
from zoodip_core.service.jobs.states import StopRequest


class HeldLeases:
    """Leases by job id, each with its pending stop request and whether it is lost."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leases: dict[str, Lease] = {}
        self._stop_requests: dict[str, StopRequest] = {}
        self._lost: set[str] = set()

    def add(self, lease: Lease) -> None:
        """Add a claimed lease; it replaces an older lease of the same job."""
        with self._lock:
            self._leases[lease.job_id] = lease
            self._stop_requests.pop(lease.job_id, None)
            self._lost.discard(lease.job_id)

    def remove(self, lease: Lease) -> None:
        """Remove a lease. A newer lease of the same job stays."""
        with self._lock:
            if self._leases.get(lease.job_id) == lease:
                del self._leases[lease.job_id]

    def leases(self) -> list[Lease]:
        """Return the held leases, lost ones included."""
        with self._lock:
            return list(self._leases.values())

    def update(self, renewed: list[Lease], response: dict[str, StopRequest | None]) -> None:
        """Update each lease from a heartbeat response.

        Args:
            renewed: leases that the heartbeat tried to renew.
            response: stop request, or None, by job id. A job that is missing has lost its lease.
        """
        with self._lock:
            for lease in renewed:
                if self._leases.get(lease.job_id) != lease:
                    continue
                if lease.job_id not in response:
                    self._lost.add(lease.job_id)
                elif (stop_request := response[lease.job_id]) is None:
                    self._stop_requests.pop(lease.job_id, None)
                else:
                    self._stop_requests[lease.job_id] = stop_request

    def stop_request(self, lease: Lease) -> StopRequest | None:
        """Return the pending cancel or pause request of a held job."""
        with self._lock:
            return self._stop_requests.get(lease.job_id)

    def is_lost(self, lease: Lease) -> bool:
        """Return whether the lease is no longer valid: another worker has the job, or it has ended."""
        with self._lock:
            return lease.job_id in self._lost or self._leases.get(lease.job_id) != lease
