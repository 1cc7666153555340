"""Rate limits: each key may send one minute's worth of requests at once, and regains them at a steady rate.

Implements the generic cell rate algorithm: the state of a key is the time at which its full allowance is available
again. With Redis as the broker, all API processes share this state. Without Redis, or while it is unavailable, each
process keeps its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from zoodip_core.service.errors import RateLimitedError

_MINUTE_US = 60_000_000  # whole microseconds: exact in Python and in a Lua number
_TIMEOUT_S = 0.5
_REDIS_RETRY_S = 5.0  # after a failure, no request waits for Redis during this time

# KEYS[1]: Redis key of the API key. ARGV[1]: cost of a request in microseconds.
# Returns the microseconds to wait; 0 means that the request was counted.
_TAKE_SCRIPT = f"""
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now) + ARGV[1]
local wait = full_at - now - {_MINUTE_US}
if wait > 0 then return wait end
redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000))
return 0
"""

_log = structlog.get_logger("zoodip.api")


class RateLimits:
    """Counts requests of API keys. All methods run on the event loop.

    Args:
        redis_url: Redis that shares the state between processes; None keeps it in this process.
        clock_s: clock in seconds for the state of this process.
    """

    def __init__(self, redis_url: str | None, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._full_at: dict[str, int] = {}
        self._redis_retry_at = 0.0
        self._redis = None
        if redis_url is not None:
            self._redis = Redis.from_url(
                redis_url, socket_connect_timeout=_TIMEOUT_S, socket_timeout=_TIMEOUT_S
            )
            self._take = self._redis.register_script(_TAKE_SCRIPT)

    async def take(self, key_id: str, per_minute: int) -> None:
        """Count one request.

        Args:
            key_id: id of the API key.
            per_minute: its limit in requests per minute.

        Raises:
            RateLimitedError: The limit is reached; `retry_after_s` is the time until the next request may be sent.
        """
        cost_us = _MINUTE_US // per_minute
        wait_us = await self._take_shared(key_id, cost_us)
        if wait_us is None:
            wait_us = self._take_local(key_id, cost_us)
        if wait_us > 0:
            raise RateLimitedError(wait_us / 1e6)

    async def close(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            await self._redis.aclose()

    async def _take_shared(self, key_id: str, cost_us: int) -> int | None:
        """Return the microseconds to wait by the shared state, or None if it is unavailable."""
        if self._redis is None or self._clock_s() < self._redis_retry_at:
            return None
        try:
            return int(await self._take(keys=[f"zoodip-rate-{key_id}"], args=[cost_us]))
        except (RedisError, OSError) as error:
            self._redis_retry_at = self._clock_s() + _REDIS_RETRY_S
            _log.warning("rate_limit_redis_unavailable", error=type(error).__name__)
            return None

    def _take_local(self, key_id: str, cost_us: int) -> int:
        now_us = int(self._clock_s() * 1e6)
        full_at = max(self._full_at.get(key_id, 0), now_us) + cost_us
        wait_us = full_at - now_us - _MINUTE_US
        if wait_us <= 0:
            self._full_at[key_id] = full_at
        return wait_us
