"""Rate limits with the state of one process."""

from __future__ import annotations

import asyncio

import pytest

from api.rate_limits import RateLimits
from zoodip_core.service.errors import RateLimitedError


def test_allowance_is_regained_at_a_steady_rate() -> None:
    """At 3 requests a minute: 3 pass at once, the fourth passes after exactly 20 s, and at most 3 are saved."""
    now_s = 1000.0
    limits = RateLimits(None, clock_s=lambda: now_s)

    def take() -> None:
        asyncio.run(limits.take("k", 3))

    for _ in range(3):
        take()
    with pytest.raises(RateLimitedError) as refused:
        take()
    assert refused.value.retry_after_s == 20
    now_s += 19.9
    with pytest.raises(RateLimitedError):
        take()
    now_s += 0.1
    take()
    now_s += 10_000
    for _ in range(3):
        take()
    with pytest.raises(RateLimitedError):
        take()


@pytest.mark.parametrize("per_minute", [1, 7, 59, 600, 12_345])
def test_exactly_the_limit_passes_at_once(per_minute: int) -> None:
    """For limits that divide a minute with and without remainder, one more request is refused."""

    async def spend() -> None:
        limits = RateLimits(None, clock_s=lambda: 5.0)
        for _ in range(per_minute):
            await limits.take("k", per_minute)
        with pytest.raises(RateLimitedError):
            await limits.take("k", per_minute)

    asyncio.run(spend())
