"""Detection of expired leases by watching for renewals, without comparing clocks of different machines."""

from __future__ import annotations

from collections.abc import Iterable

from zoodip_core.service.jobs.records import LeaseTerm


class LeaseMonitor:
    """Measures how long each lease goes without renewal while this process looks at it.

    Only the monotonic clock of this process counts. A worker whose clock is wrong keeps its jobs, and so does one
    whose clock is set forward. If this process was suspended or had no database, the time in between hardly counts:
    other workers may have been stopped by the same cause, and must have time to renew.

    Args:
        lease_s: seconds without renewal after which a lease has expired.
        longest_gap_s: most seconds that count between two looks.
    """

    def __init__(self, lease_s: float, longest_gap_s: float) -> None:
        self._lease_s = lease_s
        self._longest_gap_s = longest_gap_s
        self._unrenewed_s: dict[LeaseTerm, float] = {}
        self._looked_at = 0.0

    def expired(self, terms: Iterable[LeaseTerm], now: float) -> list[LeaseTerm]:
        """Return the leases that have expired.

        Args:
            terms: current leases of the workers to watch.
            now: monotonic time in seconds; it must not decrease from call to call.
        """
        elapsed_s = min(now - self._looked_at, self._longest_gap_s)
        self._looked_at = now
        known = self._unrenewed_s
        self._unrenewed_s = {term: known[term] + elapsed_s if term in known else 0.0 for term in terms}
        return [term for term, age_s in self._unrenewed_s.items() if age_s >= self._lease_s]
