"""Waiting for a job to change: one subscription of this process where Redis is the broker, else frequent looks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from zoodip_core.service.job_notifications import channel

LOOK_ANYWAY_S = 5.0  # a message may be lost; the row is not
_RETRY_S = 0.5
_TIMEOUT_S = 2.0
_PING_EVERY_S = 10.0
_CANCEL_AGAIN_S = 0.1

_log = structlog.get_logger("zoodip.api")


class JobWatcher:
    """Wakes whoever follows a job. All of it runs on the event loop.

    Args:
        redis_url: where changes are told; None: nowhere.
        look_anyway_s: how long a follower waits for word of a change before it looks by itself.
    """

    def __init__(self, redis_url: str | None, look_anyway_s: float = LOOK_ANYWAY_S) -> None:
        self._redis_url = redis_url
        self._look_anyway_s = look_anyway_s
        self._subscriptions: dict[str, set[JobSubscription]] = {}
        self._is_heard = False

    @contextlib.contextmanager
    def follow(self, job_id: str, *, look_every_s: float) -> Iterator[JobSubscription]:
        """What wakes at the job's changes; where no word of them comes, every `look_every_s`."""
        subscription = JobSubscription(self, look_every_s)
        self._subscriptions.setdefault(job_id, set()).add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions[job_id].discard(subscription)
            if not self._subscriptions[job_id]:
                del self._subscriptions[job_id]

    def patience_s(self, look_every_s: float) -> float:
        """How long a follower may wait before it looks by itself."""
        return self._look_anyway_s if self._is_heard else look_every_s

    @contextlib.asynccontextmanager
    async def heard(self) -> AsyncIterator[None]:
        """Listen to Redis, if there is one, within the block."""
        if self._redis_url is None:
            yield
            return
        listening = asyncio.create_task(self._listen(self._redis_url))
        try:
            yield
        finally:
            while not listening.done():
                listening.cancel()  # again: redis-py swallows one that comes while it connects, now and then
                await asyncio.wait([listening], timeout=_CANCEL_AGAIN_S)

    async def _listen(self, redis_url: str) -> None:
        redis = Redis.from_url(
            redis_url,
            socket_connect_timeout=_TIMEOUT_S,
            socket_timeout=_TIMEOUT_S,
            health_check_interval=_PING_EVERY_S,
            retry=None,  # a lost connection must show here, not be mended silently
        )
        async with redis:
            told = False
            while True:
                try:
                    await self._hear(redis, channel(redis_url))
                except (RedisError, OSError) as error:
                    if self._is_heard or not told:
                        _log.warning("changes_not_heard", error=type(error).__name__)
                    told = True
                self._set_heard(is_heard=False)
                await asyncio.sleep(_RETRY_S)

    async def _hear(self, redis: Redis, name: str) -> None:
        async with redis.pubsub() as pubsub:
            await pubsub.subscribe(name)
            while True:
                message = await pubsub.get_message(timeout=_PING_EVERY_S)
                if message is None:
                    continue
                if message["type"] == "subscribe":  # from here on nothing is missed
                    self._set_heard(is_heard=True)
                elif message["type"] == "message":
                    for subscription in self._subscriptions.get(message["data"].decode(), ()):
                        subscription.wake()

    def _set_heard(self, *, is_heard: bool) -> None:
        """Note whether changes are told; all look once, for what was missed and for how long to wait from now on."""
        self._is_heard = is_heard
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.wake()


class JobSubscription:
    """One that waits for a job's changes."""

    def __init__(self, watcher: JobWatcher, look_every_s: float) -> None:
        self._watcher = watcher
        self._look_every_s = look_every_s
        self._changed = asyncio.Event()
        self._changed.set()  # what changed since the last look before this follower was made is unknown

    def wake(self) -> None:
        """End the wait under way, or the next one."""
        self._changed.set()

    async def wait(self) -> None:
        """Return once the job changed since the last return (the first time at once), or after the patience.

        What changes after this returned ends the next wait, so no change between a look and a wait is missed.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._watcher.patience_s(self._look_every_s)):
                await self._changed.wait()
        self._changed.clear()
