"""Publishes job-change notifications through Redis Pub/Sub, so that watchers do not have to poll.

A message contains only a job id, and watchers then read the row. The row is authoritative: a watcher that misses a
message reads the row at its next poll. Without Redis as the broker there are no notifications.
"""

from __future__ import annotations

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry

from zoodip_core.service.background_publisher import BackgroundPublisher

_TIMEOUT_S = 2.0


def channel(redis_url: str) -> str:
    """Return the Pub/Sub channel of this deployment, named after the database number, which channels ignore."""
    return f"zoodip-changes-{parse_url(redis_url).get('db', 0)}"  # type: ignore[no-untyped-call]


class ChangePublisher:
    """Publishes job changes in the background.

    Args:
        redis_url: URL of the Redis server.
    """

    def __init__(self, redis_url: str) -> None:
        self._redis = Redis.from_url(
            redis_url,
            socket_connect_timeout=_TIMEOUT_S,
            socket_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),  # one retry: a restart of Redis may have closed the connection
        )
        self._channel = channel(redis_url)
        self._publisher = BackgroundPublisher("job-notifications", self._publish, (RedisError,))

    def send(self, job_id: str) -> None:
        """Queue a notification that the job changed. Call this after the commit."""
        self._publisher.send(job_id)

    def close(self) -> None:
        """Publish the queued notifications and close the connection."""
        self._publisher.close()
        self._redis.close()

    def _publish(self, job_id: str) -> None:
        self._redis.publish(self._channel, job_id)
