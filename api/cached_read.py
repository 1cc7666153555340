"""A value read from the database and cached for a second. Concurrent requests share one read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from anyio import CapacityLimiter, to_thread

FRESH_S = 1.0  # after this time, requests wait for a new read
_REFRESH_AFTER_S = 0.5  # after this time, a request starts a new read in the background

T = TypeVar("T")


class CachedRead(Generic[T]):
    """Value of `read`, at most one second old. All methods run on the event loop.

    Args:
        read: Reads the value; called on a thread.
        threads: Limits the number of such threads.
    """

    def __init__(self, read: Callable[[], T], threads: CapacityLimiter) -> None:
        self._read = read
        self._threads = threads
        self._value: tuple[T, float] | None = None
        self._reading: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """Return the value, from the cache or from a read that all waiting requests share.

        Raises:
            SQLAlchemyError: The database is unavailable.
        """
        if self._value is not None:
            value, read_at = self._value
            age_s = time.monotonic() - read_at
            if age_s < FRESH_S:
                if age_s > _REFRESH_AFTER_S:
                    self._start_reading()
                return value
        return await asyncio.shield(self._start_reading())  # a disconnected client must not cancel the others

    def _start_reading(self) -> asyncio.Task[T]:
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_once())
            self._reading.add_done_callback(_retrieve_error)
        return self._reading

    async def _read_once(self) -> T:
        started = time.monotonic()  # the value may change while it is read
        try:
            value = await to_thread.run_sync(self._read, limiter=self._threads)
            self._value = value, started
        finally:
            self._reading = None
        return value


def _retrieve_error(reading: asyncio.Task[T]) -> None:
    """Keep asyncio from logging the error of a background read: the next request reads again."""
    if not reading.cancelled():
        reading.exception()
