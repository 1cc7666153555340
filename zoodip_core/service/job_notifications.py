"""Publishes job-change notifications through Redis Pub/Sub, so that watchers do not have to poll.

A message contains only a job id, and watchers then read the row. The row is authoritative: a watcher that misses a
message reads the row at its next poll. Without Redis as the broker there are no notifications.
"""

from __future__ import annotations

import queue
import threading

import structlog
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry

_TIMEOUT_S = 2.0
_MAX_PENDING = 1000  # older notifications would arrive after the watchers' next poll

_log = structlog.get_logger("zoodip.job_notifications")


def channel(redis_url: str) -> str:
    """Return the Pub/Sub channel of this deployment, named after the database number, which channels ignore."""
    return f"zoodip-changes-{parse_url(redis_url).get('db', 0)}"  # type: ignore[no-untyped-call]


class ChangePublisher:
    """Publishes in a background thread, so that a slow or unreachable Redis delays no write."""

    def __init__(self, redis_url: str) -> None:
        self._redis = Redis.from_url(
            redis_url,
            socket_connect_timeout=_TIMEOUT_S,
            socket_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),  # one retry: a restart of Redis may have closed the connection
        )
        self._channel = channel(redis_url)
        self._pending: queue.Queue[str | None] = queue.Queue(_MAX_PENDING)
        self._thread = threading.Thread(target=self._run, name="job-notifications", daemon=True)
        self._thread.start()

    def send(self, job_id: str) -> None:
        """Queue a notification that the job changed. Call this after the commit. A full queue drops it."""
        try:
            self._pending.put_nowait(job_id)
        except queue.Full:
            return

    def close(self) -> None:
        """Publish the queued notifications and stop the thread."""
        self._pending.put(None)
        self._thread.join(2 * _TIMEOUT_S)

    def _run(self) -> None:
        is_failing = False
        with self._redis:
            while (job_id := self._pending.get()) is not None:
                try:
                    self._redis.publish(self._channel, job_id)
                    is_failing = False
                except RedisError as error:
                    if not is_failing:
                        _log.warning("job_notification_failed", error=type(error).__name__)
                    is_failing = True
