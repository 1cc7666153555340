"""Rate limits that several API processes share."""

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
from tests.integration.support.servers import own_redis, shared_redis_url
from zoodip_core.service.errors import RateLimitedError
from zoodip_core.service.settings import ServiceSettings


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """The embedded default."""
    return f"sqlite:///{tmp_path / 'zoodip.sqlite3'}"


def _statuses(urls: list[str], key: dict[str, str]) -> Counter[int]:
    """Six requests, in turns."""
    return Counter(
        httpx2.get(f"{urls[n % len(urls)]}/v1/concepts", headers=key).status_code for n in range(6)
    )


def test_two_api_processes_share_one_count(settings: ServiceSettings, tmp_path: Path) -> None:
    """Of six requests of a key of two a minute two pass; while Redis is away two in each process."""
    settings.data_dir.mkdir(exist_ok=True)
    (tmp_path / "redis").mkdir()
    with own_redis(tmp_path / "redis") as own:
        shared = settings.model_copy(update={"broker_url": own.url})
        with api(shared, tmp_path / "a.log") as one, api(shared, tmp_path / "b.log") as two:
            key, other = (make_key(settings, rate_per_minute=2) for _ in range(2))
            assert _statuses([one, two], key) == {200: 2, 429: 4}
            refused = httpx2.get(f"{two}/v1/concepts", headers=key)
            assert refused.json()["code"] == "rate_limited"
            assert 1 <= int(refused.headers["Retry-After"]) <= 30
            own.stop()
            assert _statuses([one, two], other) == {200: 4, 429: 2}


async def _passes(limits: RateLimits, key: str) -> bool:
    try:
        await limits.take(key, 1000)
    except RateLimitedError:
        return False
    return True


async def _spend(limits: RateLimits, key: str) -> int:
    """How many requests pass before one is refused."""
    passed = 0
    while await _passes(limits, key):
        passed += 1
    return passed


def test_the_count_in_redis_is_the_count_of_a_process() -> None:
    """A thousand a minute: a thousand pass at once, the next waits for its share of the minute and then passes."""
    key = secrets.token_hex(8)

    async def spend() -> None:
        limits = RateLimits(shared_redis_url(), clock_s=lambda: 0.0)  # no clock: the count is Redis' own
        started = time.monotonic()
        passed = await _spend(limits, key)
        assert 1000 <= passed <= 1001 + (time.monotonic() - started) / 0.06
        while not await _passes(limits, key):
            continue
        await limits.close()

    asyncio.run(spend())


def test_without_redis_each_process_counts(settings: ServiceSettings, tmp_path: Path) -> None:
    """Of six requests of a key of two a minute four pass: two in each of two processes."""
    settings.data_dir.mkdir(exist_ok=True)
    with api(settings, tmp_path / "a.log") as one, api(settings, tmp_path / "b.log") as two:
        key = make_key(settings, rate_per_minute=2)
        assert _statuses([one, two], key) == {200: 4, 429: 2}
