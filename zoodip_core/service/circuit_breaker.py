"""Circuit breaker: rejects calls to a server that does not respond, so that callers need not wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class CircuitBreaker:
    """Opens at a failure. While it is open, one call in each pause may try the server; a success closes it.

    Args:
        pause_s: Seconds between two tries while the breaker is open.
        clock_s: Monotonic clock in seconds.
    """

    def __init__(self, pause_s: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._pause_s = pause_s
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._retry_at: float | None = None  # None: closed

    def allows_call(self) -> bool:
        """Return whether the caller may call the server. Its result must be recorded."""
        if self._retry_at is None:
            return True
        with self._lock:
            now = self._clock_s()
            if self._retry_at is not None and now < self._retry_at:
                return False
            self._retry_at = now + self._pause_s  # the next callers are rejected while this one tries
            return True

    def record_success(self) -> None:
        """Close the breaker."""
        if self._retry_at is not None:
            with self._lock:
                self._retry_at = None

    def record_failure(self) -> None:
        """Open the breaker for one pause."""
        with self._lock:
            self._retry_at = self._clock_s() + self._pause_s
