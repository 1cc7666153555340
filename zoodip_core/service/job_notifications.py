"""Word that a job changed, through Redis where Redis is the broker, so that watchers need not keep looking.

The rows are the truth. A message carries a job's id and nothing else: whoever hears it looks at the row, and who
misses it looks a little later.
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
_MAX_WAITING = 1000  # more than that is older than the watchers' own next look

_log = structlog.get_logger("zoodip.changes")


def channel(redis_url: str) -> str:
    """Where this deployment's changes are told. Channels know no database numbers, so the name holds it."""
    return f"zoodip-changes-{parse_url(redis_url).get('db', 0)}"  # type: ignore[no-untyped-call]


class ChangePublisher:
    """Publishes on a thread of its own: a Redis that is slow or away holds up no write."""

    def __init__(self, redis_url: str) -> None:
        self._redis = Redis.from_url(
            redis_url,
            socket_connect_timeout=_TIMEOUT_S,
            socket_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),  # once: the connection may be of a Redis before its restart
        )
        self._channel = channel(redis_url)
        self._waiting: queue.Queue[str | None] = queue.Queue(_MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name="changes", daemon=True)
        self._thread.start()

    def send(self, job_id: str) -> None:
        """Tell that the job changed; call it after the commit. Dropped where too many wait already."""
        try:
            self._waiting.put_nowait(job_id)
        except queue.Full:
            return

    def close(self) -> None:
        """Send what waits, and end."""
        self._waiting.put(None)
        self._thread.join(2 * _TIMEOUT_S)

    def _run(self) -> None:
        away = False
        with self._redis:
            while (job_id := self._waiting.get()) is not None:
                try:
                    self._redis.publish(self._channel, job_id)
                    away = False
                except RedisError as error:
                    if not away:
                        _log.warning("changes_not_told", error=type(error).__name__)
                    away = True
