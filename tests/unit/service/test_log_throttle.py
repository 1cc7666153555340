"""Repeated log records are dropped, and the next one contains their number."""

from __future__ import annotations

import logging

from zoodip_core.service.log_throttle import MAX_RECORDS, WINDOW_S, LogThrottle


def _record(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("library", logging.WARNING, "file", 1, message, arguments, None)


def test_repeated_messages() -> None:
    """A message is logged a few times in each window, whatever its arguments. Others are not affected."""
    now = 0.0
    throttle = LogThrottle(lambda: now)
    passed = [throttle.filter(_record("client %s failed", number)) for number in range(1_000)]
    assert passed.count(True) == MAX_RECORDS
    assert throttle.filter(_record("another message"))
    now = WINDOW_S + 1
    later = _record("client %s failed", "b")
    assert throttle.filter(later)
    assert later.suppressed == 1_000 - MAX_RECORDS  # type: ignore[attr-defined]
    again = _record("client %s failed", "c")
    assert throttle.filter(again)
    assert not hasattr(again, "suppressed")


def test_memory_is_bounded() -> None:
    """Any number of different messages passes."""
    throttle = LogThrottle(lambda: 0.0)
    assert all(throttle.filter(_record(f"message {number}")) for number in range(5_000))
    assert len(throttle._windows) <= 1_000
