"""Expiry of leases by observation, whatever the clocks of other machines say."""

from __future__ import annotations

from worker.lease_monitor import LeaseMonitor
from zoodip_core.service.jobs.records import Lease, LeaseTerm

LEASE = Lease(job_id="per_1", owner="w1", fence=1)


def _term(expires_at: float, lease: Lease = LEASE) -> LeaseTerm:
    return LeaseTerm(lease=lease, expires_at=expires_at)


def test_a_lease_without_renewal_expires_after_its_time() -> None:
    """It has expired once it was seen unchanged for `lease_s` seconds, and a renewal starts again."""
    monitor = LeaseMonitor(30.0, longest_gap_s=10.0)
    assert [bool(monitor.expired([_term(5.0)], 1_000.0 + second)) for second in (0, 10, 20, 29)] == [
        False
    ] * 4
    assert monitor.expired([_term(5.0)], 1_030.0) == [_term(5.0)]
    assert monitor.expired([_term(6.0)], 1_031.0) == []


def test_clocks_of_workers_do_not_count() -> None:
    """Leases that a worker renews stay, though its clock is an hour ahead or behind, or is set back."""
    monitor = LeaseMonitor(30.0, longest_gap_s=10.0)
    for second in range(0, 600, 10):
        for expires_at in (second + 3_600.0, second - 3_600.0, -float(second)):
            assert monitor.expired([_term(expires_at)], float(second)) == []


def test_time_without_a_look_hardly_counts() -> None:
    """After an hour of suspension, a worker that was suspended too has time to renew its leases."""
    monitor = LeaseMonitor(30.0, longest_gap_s=10.0)
    monitor.expired([_term(5.0)], 0.0)
    assert monitor.expired([_term(5.0)], 3_600.0) == []
    assert monitor.expired([_term(5.0)], 3_610.0) == []
    assert monitor.expired([_term(5.0)], 3_620.0) == [_term(5.0)]


def test_a_new_claim_starts_again() -> None:
    """The next claim of the job has another fence, so its age starts at 0."""
    monitor = LeaseMonitor(30.0, longest_gap_s=30.0)
    monitor.expired([_term(5.0)], 0.0)
    claimed = Lease(job_id="per_1", owner="w2", fence=2)
    assert monitor.expired([_term(5.0, claimed)], 30.0) == []
