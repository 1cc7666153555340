"""Registry of held leases: heartbeat responses, stop requests and lost leases."""

from __future__ import annotations

from worker.held_leases import HeldLeases
from zoodip_core.service.jobs.records import Lease
from zoodip_core.service.jobs.states import StopRequest


def test_held_leases_follow_heartbeat_responses() -> None:
    """A lease that the response lacks is lost; a response to an old lease does not affect a newer one."""
    held_leases = HeldLeases()
    first, second = (Lease(job_id="a", owner="w", fence=fence) for fence in (1, 2))
    held_leases.add(first)
    held_leases.update([first], {"a": StopRequest.PAUSE})
    assert held_leases.stop_request(first) is StopRequest.PAUSE
    held_leases.update([first], {"a": None})
    assert held_leases.stop_request(first) is None
    held_leases.update([first], {})
    assert held_leases.is_lost(first)
    held_leases.add(second)
    held_leases.update([first], {})
    assert not held_leases.is_lost(second)
    assert held_leases.leases() == [second]
    held_leases.remove(first)
    assert held_leases.leases() == [second]
