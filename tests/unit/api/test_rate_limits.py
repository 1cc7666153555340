"""Rate limits as one process counts them."""

from __future__ import annotations

import asyncio

import pytest

from api.rate_limits import RateLimits
from zoodip_core.service.errors import RateLimitedError


def test_a_minutes_worth_is_gained_back_steadily() -> None:
    """Three a minute: three at once, the fourth after 20 s and not earlier, and never more than three saved up."""
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
def test_a_rate_is_met_exactly(per_minute: int) -> None:
    """As many requests as the rate says pass at once, whatever it divides into; one more does not."""

    async def spend() -> None:
        limits = RateLimits(None, clock_s=lambda: 5.0)
        for _ in range(per_minute):
            await limits.take("k", per_minute)
        with pytest.raises(RateLimitedError):
            await limits.take("k", per_minute)

    asyncio.run(spend())
