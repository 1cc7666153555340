"""Publishes messages to a broker from a background thread, so that a slow or unreachable broker delays no request."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

from zoodip_core.service.circuit_breaker import CircuitBreaker

_MAX_PENDING = 1000
_MAX_AGE_S = 2.0  # receivers also poll, so older messages are useless
_BREAKER_PAUSE_S = 2.0

_log = structlog.get_logger("zoodip.broker")

M = TypeVar("M")


class BackgroundPublisher(Generic[M]):
    """Publishes messages in order and drops those that it cannot publish within two seconds.

    After a failure, a circuit breaker drops messages without a try for two seconds.

    Args:
        name: Name of the thread, which also appears in the log.
        publish: Publishes one message; called on the thread.
        errors: Exceptions of `publish` that mean that the broker is unavailable.
    """

    def __init__(self, name: str, publish: Callable[[M], None], errors: tuple[type[Exception], ...]) -> None:
        self._name = name
        self._publish = publish
        self._errors = errors
        self._breaker = CircuitBreaker(_BREAKER_PAUSE_S)
        self._pending: queue.Queue[tuple[M, float] | None] = queue.Queue(_MAX_PENDING)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def send(self, message: M) -> None:
        """Queue a message without waiting. A full queue drops it."""
        try:
            self._pending.put_nowait((message, time.monotonic()))
        except queue.Full:
            return

    def close(self) -> None:
        """Publish the queued messages and stop the thread; give up after two seconds."""
        try:
            self._pending.put_nowait(None)
        except queue.Full:
            return  # the broker is unavailable; the thread ends with the process
        self._thread.join(_MAX_AGE_S)

    def _run(self) -> None:
        is_failing = False
        while (pending := self._pending.get()) is not None:
            message, queued_at = pending
            if time.monotonic() - queued_at > _MAX_AGE_S or not self._breaker.allows_call():
                continue
            try:
                self._publish(message)
            except self._errors as error:
                self._breaker.record_failure()
                if not is_failing:
                    _log.warning("broker_unavailable", publisher=self._name, error=type(error).__name__)
                is_failing = True
            else:
                self._breaker.record_success()
                is_failing = False
