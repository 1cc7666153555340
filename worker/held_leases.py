"""The jobs that this worker holds, shared by the engine's thread and the one that keeps leases alive."""

from __future__ import annotations

import threading

from zoodip_core.service.jobs.records import Lease
from zoodip_core.service.jobs.states import StopRequest


class HeldLeases:
    """Leases by job id, with what was learned of each: a client's stop_request, or that it is lost."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leases: dict[str, Lease] = {}
        self._stop_requests: dict[str, StopRequest] = {}
        self._lost: set[str] = set()

    def add(self, lease: Lease) -> None:
        """Hold one more."""
        with self._lock:
            self._leases[lease.job_id] = lease
            self._stop_requests.pop(lease.job_id, None)
            self._lost.discard(lease.job_id)

    def remove(self, lease: Lease) -> None:
        """Hold it no more."""
        with self._lock:
            if self._leases.get(lease.job_id) == lease:
                del self._leases[lease.job_id]

    def leases(self) -> list[Lease]:
        """What is held now."""
        with self._lock:
            return list(self._leases.values())

    def update(self, asked: list[Lease], answer: dict[str, StopRequest | None]) -> None:
        """Note what the database said of these leases."""
        with self._lock:
            for lease in asked:
                if self._leases.get(lease.job_id) != lease:
                    continue
                if lease.job_id not in answer:
                    self._lost.add(lease.job_id)
                elif (stop_request := answer[lease.job_id]) is None:
                    self._stop_requests.pop(lease.job_id, None)
                else:
                    self._stop_requests[lease.job_id] = stop_request

    def stop_request(self, lease: Lease) -> StopRequest | None:
        """What the client wishes of a held job."""
        with self._lock:
            return self._stop_requests.get(lease.job_id)

    def is_lost(self, lease: Lease) -> bool:
        """Whether another worker has it, or it has ended."""
        with self._lock:
            return lease.job_id in self._lost or self._leases.get(lease.job_id) != lease
