"""The circuit breaker opens at a failure and lets one call in each pause through."""

from __future__ import annotations

from zoodip_core.service.circuit_breaker import CircuitBreaker


def test_an_open_breaker_allows_one_call_in_each_pause() -> None:
    """The first call after the pause tries the server, and its success closes the breaker."""
    now = 0.0
    breaker = CircuitBreaker(2.0, clock_s=lambda: now)
    assert breaker.allows_call()
    breaker.record_failure()
    assert not breaker.allows_call()
    now = 2.0
    assert [breaker.allows_call() for _ in range(3)] == [True, False, False]
    now = 4.0
    assert breaker.allows_call()
    breaker.record_success()
    assert [breaker.allows_call() for _ in range(3)] == [True, True, True]
