"""The object store in a folder and behind the S3 protocol (moto's server)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.support.processes import free_port, server
from zoodip_core.errors import StorageError
from zoodip_core.jobs.errors import NotFoundError
from zoodip_core.jobs.objects import ObjectStore

_START_S3 = "from moto.server import main; main()"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an S3 server with a bucket `zoodip`."""
    import urllib.request

    port = free_port()
    command = [sys.executable, "-c", _START_S3, "-H", "127.0.0.1", "-p", str(port)]
    with server(command, port, tmp_path_factory.mktemp("s3") / "log"):
        bucket = urllib.request.Request(f"http://127.0.0.1:{port}/zoodip", method="PUT")
        urllib.request.urlopen(bucket).close()  # noqa: S310
        yield port


@pytest.fixture(params=["folder", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """An empty object store."""
    if request.param == "folder":
        return ObjectStore((tmp_path / "objects").as_uri())
    _aws(monkeypatch, request.getfixturevalue("s3"))
    return ObjectStore(f"s3://zoodip/{tmp_path.name}")


def _aws(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")


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
    _aws(monkeypatch, free_port())
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
