"""Cached reads: concurrent requests share one read, and an old value is read again before it expires."""

from __future__ import annotations

import asyncio
import threading

import pytest
from anyio import CapacityLimiter

from api import cached_read
from api.cached_read import CachedRead


def test_concurrent_requests_share_one_read() -> None:
    """200 requests cause one read, also if the client of the first one disconnects."""
    reads: list[int] = []
    may_answer = threading.Event()

    def read() -> int:
        reads.append(1)
        assert may_answer.wait(60)
        return len(reads)

    async def use() -> list[int]:
        cached = CachedRead(read, CapacityLimiter(3))
        first = asyncio.create_task(cached.get())
        await asyncio.sleep(0)
        others = [asyncio.create_task(cached.get()) for _ in range(200)]
        await asyncio.sleep(0)
        first.cancel()
        may_answer.set()
        return await asyncio.gather(*others)

    assert asyncio.run(use()) == [1] * 200
    assert len(reads) == 1


def test_old_value_is_refreshed_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """From half its lifetime on, a value is still used while one new read runs; an expired one is not used."""
    monkeypatch.setattr(cached_read, "_REFRESH_AFTER_S", -1.0)
    reads: list[int] = []
    may_answer = threading.Semaphore()

    def read() -> int:
        assert may_answer.acquire(timeout=60)
        reads.append(1)
        return len(reads)

    async def use() -> None:
        cached = CachedRead(read, CapacityLimiter(3))
        assert await cached.get() == 1
        assert [await cached.get() for _ in range(10)] == [1] * 10
        monkeypatch.setattr(cached_read, "FRESH_S", 0.0)
        waiting = asyncio.create_task(cached.get())
        await asyncio.sleep(0)
        assert not waiting.done()
        may_answer.release()
        assert await waiting == 2

    asyncio.run(use())
    assert len(reads) == 2


def test_a_failed_read_is_not_cached() -> None:
    """All requests that share a failed read get its error; the next request reads again."""
    answers = iter([OSError("down"), 1])

    def read() -> int:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    async def use() -> None:
        cached = CachedRead(read, CapacityLimiter(3))
        failed = await asyncio.gather(*(cached.get() for _ in range(3)), return_exceptions=True)
        assert [str(error) for error in failed] == ["down"] * 3
        assert await cached.get() == 1

    asyncio.run(use())
