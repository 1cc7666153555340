"""Rate limits: each key may spend a minute's worth of requests at once and gains them back steadily.

A key has one number: the moment at which all it spent is gained back (the generic cell rate algorithm). In Redis,
where it is the broker, all API processes share that number; else, and while Redis is away, each process has its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from zoodip_core.service.errors import RateLimitedError

_MINUTE_US = 60_000_000  # whole microseconds: both counts are exact, and a Lua number holds them
_TIMEOUT_S = 0.5
_AWAY_S = 5.0  # no request waits for a Redis that was away so short a time ago

# KEYS: of the API key. ARGV: microseconds that a request costs. Returns those to wait; 0: the request was counted.
_TAKE = f"""
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
    """Counts requests. All of it runs on the event loop.

    Args:
        redis_url: where the count is shared; None: nowhere.
        clock_s: seconds, for the count of this process.
    """

    def __init__(self, redis_url: str | None, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._full_at: dict[str, int] = {}
        self._away_until = 0.0
        self._redis = None
        if redis_url is not None:
            self._redis = Redis.from_url(
                redis_url, socket_connect_timeout=_TIMEOUT_S, socket_timeout=_TIMEOUT_S
            )
            self._take = self._redis.register_script(_TAKE)

    async def take(self, key_id: str, per_minute: int) -> None:
        """Count one request.

        Raises:
            RateLimitedError: the minute's worth is spent; says when the next request may come.
        """
        cost_us = _MINUTE_US // per_minute
        wait_us = await self._take_shared(key_id, cost_us)
        if wait_us is None:
            wait_us = self._take_here(key_id, cost_us)
        if wait_us > 0:
            raise RateLimitedError(wait_us / 1e6)

    async def close(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            await self._redis.aclose()

    async def _take_shared(self, key_id: str, cost_us: int) -> int | None:
        """Microseconds to wait by the shared count; None where there is none."""
        if self._redis is None or self._clock_s() < self._away_until:
            return None
        try:
            return int(await self._take(keys=[f"zoodip-rate-{key_id}"], args=[cost_us]))
        except (RedisError, OSError) as error:
            self._away_until = self._clock_s() + _AWAY_S
            _log.warning("rates_not_shared", error=type(error).__name__)
            return None

    def _take_here(self, key_id: str, cost_us: int) -> int:
        now_us = int(self._clock_s() * 1e6)
        full_at = max(self._full_at.get(key_id, 0), now_us) + cost_us
        wait_us = full_at - now_us - _MINUTE_US
        if wait_us <= 0:
            self._full_at[key_id] = full_at
        return wait_us
