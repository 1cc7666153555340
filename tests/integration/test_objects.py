"""The object store in a folder and behind the S3 protocol (moto's server)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.support.processes import free_port
from tests.integration.support.s3 import OwnS3, aws, own_s3
from zoodip_core.errors import StorageError
from zoodip_core.service.errors import NotFoundError
from zoodip_core.service.object_store import ObjectStore


@pytest.fixture(scope="module")
def s3() -> Iterator[OwnS3]:
    """An S3 server with a bucket."""
    with own_s3() as running:
        yield running


@pytest.fixture(params=["folder", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """An empty object store."""
    if request.param == "folder":
        return ObjectStore((tmp_path / "objects").as_uri())
    running: OwnS3 = request.getfixturevalue("s3")
    _use(monkeypatch, running.environment)
    return ObjectStore(f"s3://{running.bucket}/{tmp_path.name}")


def _use(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_what_is_put_can_be_got_listed_and_deleted(objects: ObjectStore) -> None:
    """Bytes come back; listing stays within the prefix; deleting twice is fine."""
    objects.put("jobs/a/references/00.png", b"\x00" * 100_000)
    objects.put("jobs/a/previews/10.png", b"one")
    objects.put("jobs/a/previews/10.png", b"two")
    objects.put("jobs/ab/x", b"other")
    assert objects.get("jobs/a/previews/10.png") == b"two"
    assert sorted(objects.names("jobs/a/")) == ["jobs/a/previews/10.png", "jobs/a/references/00.png"]
    objects.delete_all("jobs/a/")
    objects.delete(["jobs/a/previews/10.png"])
    assert objects.names("jobs/a/") == []
    assert objects.get("jobs/ab/x") == b"other"
    with pytest.raises(NotFoundError):
        objects.get("jobs/a/previews/10.png")


def test_a_store_that_is_away_is_a_typed_retryable_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens: put, get and list say storage_failed."""
    _use(monkeypatch, aws(free_port()))
    objects = ObjectStore("s3://zoodip/x")
    for call in (lambda: objects.put("a", b"x"), lambda: objects.get("a"), lambda: objects.names("a")):
        with pytest.raises(StorageError) as failure:
            call()
        assert failure.value.retryable


def test_a_folder_that_cannot_be_written_is_a_typed_error(tmp_path: Path) -> None:
    """A file where a folder should be, and a scheme that is unknown."""
    objects = ObjectStore((tmp_path / "objects").as_uri())
    objects.put("a", b"x")
    with pytest.raises(StorageError, match="a/b could not be stored"):
        objects.put("a/b", b"x")
    with pytest.raises(StorageError, match="not ftp://"):
        ObjectStore("ftp://somewhere")
