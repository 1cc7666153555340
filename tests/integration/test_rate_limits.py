"""Rate limits with several API processes, with and without Redis."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from pathlib import Path

import httpx2
import pytest

from api.rate_limits import RateLimits
from tests.integration.support.apis import api
from tests.integration.support.keys import make_key
from tests.integration.support.servers import shared_redis_url, start_redis
from zoodip_core.service.errors import RateLimitedError
from zoodip_core.service.settings import ServiceSettings


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """URL of the default SQLite database."""
    return f"sqlite:///{tmp_path / 'zoodip.sqlite3'}"


def _statuses(urls: list[str], key: dict[str, str]) -> Counter[int]:
    """Send six requests to the URLs in turn; return the number of responses by status."""
    return Counter(
        httpx2.get(f"{urls[n % len(urls)]}/v1/concepts", headers=key).status_code for n in range(6)
    )


def test_redis_shares_the_count_between_processes(settings: ServiceSettings, tmp_path: Path) -> None:
    """With 2 requests a minute, 2 of 6 pass in two processes; without Redis, 2 pass in each process."""
    settings.data_dir.mkdir(exist_ok=True)
    (tmp_path / "redis").mkdir()
    with start_redis(tmp_path / "redis") as redis:
        shared = settings.model_copy(update={"broker_url": redis.url})
        with api(shared, tmp_path / "a.log") as first, api(shared, tmp_path / "b.log") as second:
            key, other = (make_key(settings, rate_per_minute=2) for _ in range(2))
            assert _statuses([first, second], key) == {200: 2, 429: 4}
            refused = httpx2.get(f"{second}/v1/concepts", headers=key)
            assert refused.json()["code"] == "rate_limited"
            assert 1 <= int(refused.headers["Retry-After"]) <= 30
            redis.stop()
            assert _statuses([first, second], other) == {200: 4, 429: 2}


async def _passes(limits: RateLimits, key: str) -> bool:
    try:
        await limits.take(key, 1000)
    except RateLimitedError:
        return False
    return True


async def _spend(limits: RateLimits, key: str) -> int:
    """Return the number of requests that pass before one is refused."""
    passed = 0
    while await _passes(limits, key):
        passed += 1
    return passed


def test_redis_refills_the_limit_over_a_minute() -> None:
    """With 1,000 requests a minute, 1,000 pass at once; the next passes after its share of the minute."""
    key = secrets.token_hex(8)

    async def spend() -> None:
        limits = RateLimits(
            shared_redis_url(), clock_s=lambda: 0.0
        )  # the stopped clock shows that Redis does the counting
        started = time.monotonic()
        passed = await _spend(limits, key)
        assert 1000 <= passed <= 1001 + (time.monotonic() - started) / 0.06
        while not await _passes(limits, key):
            continue
        await limits.close()

    asyncio.run(spend())


def test_without_redis_each_process_has_its_limit(settings: ServiceSettings, tmp_path: Path) -> None:
    """With 2 requests a minute, 4 of 6 requests pass: 2 in each of two processes."""
    settings.data_dir.mkdir(exist_ok=True)
    with api(settings, tmp_path / "a.log") as first, api(settings, tmp_path / "b.log") as second:
        key = make_key(settings, rate_per_minute=2)
        assert _statuses([first, second], key) == {200: 4, 429: 2}
