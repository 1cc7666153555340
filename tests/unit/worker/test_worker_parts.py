"""The worker's small parts: signatures, addresses, what is held."""

from __future__ import annotations

import pytest
from standardwebhooks.webhooks import Webhook

from worker.held_leases import HeldLeases
from worker.stats import Stats
from worker.webhook_sender import public_address, sign
from zoodip_core.service.api_keys import new_webhook_secret
from zoodip_core.service.jobs.records import Lease
from zoodip_core.service.jobs.states import StopRequest

PRIVATE = (
    *("127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1"),  # noqa: S104
    *("::1", "::ffff:10.0.0.1", "fd00::1"),
)


def test_the_official_library_verifies_our_signature() -> None:
    """Standard Webhooks' own package accepts a message with two secrets' signatures, and no changed one."""
    import time

    old, new = new_webhook_secret(), new_webhook_secret()
    payload, stamp = '{"type": "personalization.succeeded"}', str(int(time.time()))
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(sign(secret, "msg_1", stamp, payload) for secret in (new, old)),
    }
    for secret in (old, new):
        assert Webhook(secret).verify(payload, headers) == {"type": "personalization.succeeded"}
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(old).verify(payload + " ", headers)


@pytest.mark.parametrize("host", PRIVATE)
def test_addresses_that_are_not_public_are_not_called(host: str) -> None:
    """Loopback, private, link-local (cloud metadata), mapped, shared and multicast addresses."""
    with pytest.raises(OSError, match="not public"):
        public_address(host, 443)
    assert public_address(host, 443, private=True)[1] == 443


def test_holding_learns_of_wishes_and_losses() -> None:
    """An answer without a lease means that it is lost; an old lease's answer says nothing of a new one."""
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


def test_stats_are_plain_values() -> None:
    """Counters add up, means follow, stages hold seconds."""
    stats = Stats()
    for _ in range(3):
        stats.stepped("emoji", searches=2, rows=6, seconds=0.5)
    with stats.stage("begin"):
        pass
    snapshot = stats.snapshot()
    assert snapshot["counters"] == {"steps": 6, "forwards": 3, "rows": 18}
    assert snapshot["gauges"]["rows_per_forward"] == pytest.approx(6)
    assert snapshot["rows_per_s"]["emoji"] == pytest.approx(12)
    assert set(snapshot["stages"]) == {"begin"}
