"""The jobs that this worker holds, shared by the engine's thread and the one that keeps leases alive."""

from __future__ import annotations

import threading

from zoodip_core.service.jobs.records import Lease
from zoodip_core.service.jobs.states import Wish


class Holding:
    """Leases by job id, with what was learned of each: a client's wish, or that it is lost."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leases: dict[str, Lease] = {}
        self._wishes: dict[str, Wish] = {}
        self._lost: set[str] = set()

    def take(self, lease: Lease) -> None:
        """Hold one more."""
        with self._lock:
            self._leases[lease.job_id] = lease
            self._wishes.pop(lease.job_id, None)
            self._lost.discard(lease.job_id)

    def drop(self, lease: Lease) -> None:
        """Hold it no more."""
        with self._lock:
            if self._leases.get(lease.job_id) == lease:
                del self._leases[lease.job_id]

    def leases(self) -> list[Lease]:
        """What is held now."""
        with self._lock:
            return list(self._leases.values())

    def learn(self, asked: list[Lease], answer: dict[str, Wish | None]) -> None:
        """Note what the database said of these leases."""
        with self._lock:
            for lease in asked:
                if self._leases.get(lease.job_id) != lease:
                    continue
                if lease.job_id not in answer:
                    self._lost.add(lease.job_id)
                elif (wish := answer[lease.job_id]) is None:
                    self._wishes.pop(lease.job_id, None)
                else:
                    self._wishes[lease.job_id] = wish

    def wish(self, lease: Lease) -> Wish | None:
        """What the client wishes of a held job."""
        with self._lock:
            return self._wishes.get(lease.job_id)

    def is_lost(self, lease: Lease) -> bool:
        """Whether another worker has it, or it has ended."""
        with self._lock:
            return lease.job_id in self._lost or self._leases.get(lease.job_id) != lease
