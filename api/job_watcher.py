"""Waits for changes of jobs.

With Redis as the broker, one Redis subscription of the process wakes all waiting requests. Without it, they poll.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from zoodip_core.service.job_notifications import channel

FALLBACK_POLL_S = 5.0  # Redis may lose a message, so waiting requests still poll
_RETRY_S = 0.5
_TIMEOUT_S = 2.0
_PING_EVERY_S = 10.0
_CANCEL_RETRY_S = 0.1

_log = structlog.get_logger("zoodip.api")


class JobWatcher:
    """Wakes requests that wait for a change of a job. All methods run on the event loop.

    Args:
        redis_url: Redis that publishes job-change notifications; None if there is none.
        fallback_poll_s: poll interval while notifications are active.
    """

    def __init__(self, redis_url: str | None, fallback_poll_s: float = FALLBACK_POLL_S) -> None:
        self._redis_url = redis_url
        self._fallback_poll_s = fallback_poll_s
        self._subscriptions: dict[str, set[JobSubscription]] = {}
        self._is_notified = False

    @contextlib.contextmanager
    def follow(self, job_id: str, *, poll_interval_s: float) -> Iterator[JobSubscription]:
        """Subscribe to the changes of a job within the block.

        Args:
            job_id: the job.
            poll_interval_s: poll interval while no notifications arrive.
        """
        subscription = JobSubscription(self, poll_interval_s)
        self._subscriptions.setdefault(job_id, set()).add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions[job_id].discard(subscription)
            if not self._subscriptions[job_id]:
                del self._subscriptions[job_id]

    def wait_limit_s(self, poll_interval_s: float) -> float:
        """Return the longest time that a request may wait before it reads the row again."""
        return self._fallback_poll_s if self._is_notified else poll_interval_s

    @contextlib.asynccontextmanager
    async def listen(self) -> AsyncIterator[None]:
        """Receive notifications within the block, if Redis is the broker."""
        if self._redis_url is None:
            yield
            return
        listener = asyncio.create_task(self._receive_and_reconnect(self._redis_url))
        try:
            yield
        finally:
            while not listener.done():
                listener.cancel()  # repeated, because redis-py can swallow a cancellation while it connects
                await asyncio.wait([listener], timeout=_CANCEL_RETRY_S)

    async def _receive_and_reconnect(self, redis_url: str) -> None:
        redis = Redis.from_url(
            redis_url,
            socket_connect_timeout=_TIMEOUT_S,
            socket_timeout=_TIMEOUT_S,
            health_check_interval=_PING_EVERY_S,
            retry=None,  # report a lost connection here instead of reconnecting silently
        )
        async with redis:
            is_logged = False
            while True:
                try:
                    await self._receive(redis, channel(redis_url))
                except (RedisError, OSError) as error:
                    if self._is_notified or not is_logged:
                        _log.warning("job_notifications_unavailable", error=type(error).__name__)
                    is_logged = True
                self._set_notified(is_notified=False)
                await asyncio.sleep(_RETRY_S)

    async def _receive(self, redis: Redis, name: str) -> None:
        async with redis.pubsub() as pubsub:
            await pubsub.subscribe(name)
            while True:
                message = await pubsub.get_message(timeout=_PING_EVERY_S)
                if message is None:
                    continue
                if message["type"] == "subscribe":  # all later notifications arrive
                    self._set_notified(is_notified=True)
                elif message["type"] == "message":
                    for subscription in self._subscriptions.get(message["data"].decode(), ()):
                        subscription.wake()

    def _set_notified(self, *, is_notified: bool) -> None:
        """Record whether notifications are active, and wake all waiting requests.

        They read their row again, because a change may have been missed, and adopt the new poll interval.
        """
        self._is_notified = is_notified
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.wake()


class JobSubscription:
    """Subscription of one request to the changes of a job."""

    def __init__(self, watcher: JobWatcher, poll_interval_s: float) -> None:
        self._watcher = watcher
        self._poll_interval_s = poll_interval_s
        self._changed = asyncio.Event()
        self._changed.set()  # the job may have changed before this subscription began

    def wake(self) -> None:
        """End the current wait, or the next one if none is in progress."""
        self._changed.set()

    async def wait(self) -> None:
        """Return when the job has changed since the last return, or at the wait limit.

        The first call returns at once. A change after a return ends the next wait, so a caller that reads the row
        between two waits misses no change.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._watcher.wait_limit_s(self._poll_interval_s)):
                await self._changed.wait()
        self._changed.clear()
