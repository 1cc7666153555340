"""Object store that outlasts a full disk or an unreachable bucket, for a limited time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from zoodip_core.errors import StorageError
from zoodip_core.service.object_store import ObjectStore

T = TypeVar("T")

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 1.0
_OUTAGE_ENDS_S = 60.0  # a failure so long after the previous one is the first of a new outage

_log = structlog.get_logger("zoodip.worker")


class RetryingObjectStore:
    """Reads and writes objects, and retries while the object store fails.

    All jobs of a worker share the time of one outage: after `retry_s` seconds, operations fail at the first error
    until one succeeds.

    Args:
        objects: the object store.
        retry_s: seconds of an outage during which operations are retried.
    """

    def __init__(self, objects: ObjectStore, retry_s: float) -> None:
        self._objects = objects
        self._retry_s = retry_s
        self._outage_began_at = self._failed_at = -math.inf

    def put(self, name: str, content: bytes, before_retry: Callable[[], None]) -> None:
        """Store an object atomically.

        Args:
            name: name of the object.
            content: its bytes.
            before_retry: called before each retry; an exception from it ends the retries.

        Raises:
            StorageError: the object store still fails after `retry_s` seconds.
        """
        self._retry(lambda: self._objects.put(name, content), before_retry)

    def get(self, name: str, before_retry: Callable[[], None]) -> bytes:
        """Return the content of an object. `before_retry` is as in `put`.

        Raises:
            NotFoundError: the object does not exist.
            StorageError: the object store still fails after `retry_s` seconds.
        """
        return self._retry(lambda: self._objects.get(name), before_retry)

    def delete(self, names: list[str]) -> None:
        """Delete objects if the object store permits; the daily orphan cleanup deletes the others.

        A failure must not change the result of a job.
        """
        try:
            self._objects.delete(names)
        except StorageError as error:
            _log.warning("objects_not_deleted", objects=len(names), error=error.message)

    def _retry(self, operation: Callable[[], T], before_retry: Callable[[], None]) -> T:
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                result = operation()
            except StorageError as error:
                if self._outage_s() >= self._retry_s:
                    raise
                _log.warning("storage_retried", error=error.message)
                before_retry()
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            else:
                self._failed_at = -math.inf
                return result

    def _outage_s(self) -> float:
        """Note a failure; return the seconds since the first failure of this outage."""
        now = time.monotonic()
        if now - self._failed_at > _OUTAGE_ENDS_S:
            self._outage_began_at = now
        self._failed_at = now
        return now - self._outage_began_at
