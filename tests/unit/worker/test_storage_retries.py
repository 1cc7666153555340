"""Retries of a failing object store, for a limited time."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.storage_retries import RetryingObjectStore
from zoodip_core.errors import StorageError
from zoodip_core.service.errors import NotFoundError
from zoodip_core.service.object_store import ObjectStore


class _Failing(ObjectStore):
    """Object store whose first `failures` writes fail."""

    def __init__(self, folder: Path, failures: int) -> None:
        super().__init__(folder.as_uri())
        self.failures = failures

    def put(self, name: str, content: bytes) -> None:
        """Store an object, or fail."""
        self.failures -= 1
        if self.failures >= 0:
            raise StorageError("the disk is full")
        super().put(name, content)


@pytest.mark.slow
def test_a_write_succeeds_after_failures(tmp_path: Path) -> None:
    """Each failure is retried, and the job can give up before each retry."""
    objects, waits = _Failing(tmp_path, 2), []
    RetryingObjectStore(objects, 60.0).put("a", b"1", lambda: waits.append(None))
    assert objects.get("a") == b"1"
    assert len(waits) == 2


def test_a_stopped_job_ends_the_retries(tmp_path: Path) -> None:
    """An exception before a retry ends the wait."""

    def stop() -> None:
        raise InterruptedError

    objects = _Failing(tmp_path, 1_000)
    with pytest.raises(InterruptedError):
        RetryingObjectStore(objects, 60.0).put("a", b"1", stop)
    assert objects.failures == 999


def test_jobs_share_the_time_of_an_outage(tmp_path: Path) -> None:
    """When the time is over, further operations fail at their first error; a success starts a new count."""
    objects = _Failing(tmp_path, 1_000)
    retrying = RetryingObjectStore(objects, 0.3)
    with pytest.raises(StorageError):
        retrying.put("a", b"1", lambda: None)
    tried = objects.failures
    with pytest.raises(StorageError):
        retrying.put("b", b"1", lambda: None)
    assert objects.failures == tried - 1
    objects.failures = 0
    retrying.put("c", b"1", lambda: None)
    objects.failures = 1
    retrying.put("d", b"1", lambda: None)
    assert objects.get("d") == b"1"


def test_a_missing_object_is_no_outage(tmp_path: Path) -> None:
    """It is reported at once, and deleting it is no error."""
    retrying = RetryingObjectStore(_Failing(tmp_path, 0), 60.0)
    with pytest.raises(NotFoundError):
        retrying.get("missing", lambda: pytest.fail("no retry"))
    retrying.delete(["missing"])
