"""Throttle for log records that clients or a failing system can repeat without limit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

WINDOW_S = 10.0
MAX_RECORDS = 5  # of one message in a window
_MAX_MESSAGES = 1_000  # limit of the memory for messages


class LogThrottle(logging.Filter):
    """Drops records whose message was logged 5 times in the last 10 s.

    The next record of that message has the attribute `suppressed`: how many were dropped before it.

    Args:
        clock_s: clock in seconds.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock_s = clock_s
        self._windows: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log the record."""
        key = (record.name, str(record.msg))
        now = self._clock_s()
        started_at, count = self._windows.get(key, (now, 0))
        if now - started_at > WINDOW_S:
            if count > MAX_RECORDS:
                record.suppressed = count - MAX_RECORDS
            started_at, count = now, 0
        if len(self._windows) >= _MAX_MESSAGES and key not in self._windows:
            self._windows.clear()
        self._windows[key] = (started_at, count + 1)
        return count < MAX_RECORDS
