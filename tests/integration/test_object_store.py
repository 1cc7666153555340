"""Object store in a folder and in S3 (served by moto)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.support.processes import free_port
from tests.integration.support.s3 import S3Server, aws, start_s3
from zoodip_core.errors import StorageError
from zoodip_core.service.errors import NotFoundError
from zoodip_core.service.object_store import ObjectStore


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    """S3 server with a bucket."""
    with start_s3() as running:
        yield running


@pytest.fixture(params=["folder", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """Empty object store: a folder, then S3."""
    if request.param == "folder":
        return ObjectStore((tmp_path / "objects").as_uri())
    running: S3Server = request.getfixturevalue("s3")
    _use(monkeypatch, running.environment)
    return ObjectStore(f"s3://{running.bucket}/{tmp_path.name}")


def _use(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_put_get_list_and_delete(objects: ObjectStore) -> None:
    """Objects are read back, listed by prefix and deleted; deleting twice is no error."""
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


def test_unreachable_store_raises_a_retryable_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server, put, get and list raise a retryable StorageError."""
    _use(monkeypatch, aws(free_port()))
    objects = ObjectStore("s3://zoodip/x")
    for call in (lambda: objects.put("a", b"x"), lambda: objects.get("a"), lambda: objects.names("a")):
        with pytest.raises(StorageError) as failure:
            call()
        assert failure.value.retryable


def test_unusable_folder_or_scheme_raises_storage_error(tmp_path: Path) -> None:
    """A file in the place of a folder and an unknown scheme raise StorageError."""
    objects = ObjectStore((tmp_path / "objects").as_uri())
    objects.put("a", b"x")
    with pytest.raises(StorageError, match="cannot store a/b"):
        objects.put("a/b", b"x")
    with pytest.raises(StorageError, match="object store: got ftp://; expected file:///"):
        ObjectStore("ftp://somewhere")
