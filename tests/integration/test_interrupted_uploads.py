"""Oversized and interrupted uploads to a real API process are refused during the upload and store nothing."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.integration.support.apis import api
from tests.integration.support.photos import REQUEST, parts, photo
from tests.integration.support.processes import wait_until
from zoodip_core.service.object_store import ObjectStore
from zoodip_core.service.settings import ServiceSettings

_GIGABYTE = 10**9


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """URL of the default SQLite database."""
    return f"sqlite:///{tmp_path / 'zoodip.sqlite3'}"


@pytest.fixture
def url(settings: ServiceSettings, tmp_path: Path) -> Iterator[str]:
    """URL of a running API process."""
    settings.data_dir.mkdir()
    with api(settings.model_copy(update={"log_level": "INFO"}), tmp_path / "api.log") as url:
        yield url


def _begin_upload(url: str) -> socket.socket:
    """Open a connection and send the headers of an upload with one photo of 1 GB, but not its content."""
    address = urlsplit(url)
    connection = socket.create_connection((address.hostname, address.port), timeout=30)
    connection.sendall(
        f"POST /v1/personalizations HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {_GIGABYTE}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        '--x\r\nContent-Disposition: form-data; name="request"\r\n\r\n'
        f"{json.dumps(REQUEST)}\r\n"
        '--x\r\nContent-Disposition: form-data; name="images"; filename="huge.png"\r\n\r\n'.encode()
    )
    return connection


def _read_all(connection: socket.socket) -> bytes:
    """Read the response to the end of its JSON body or of the connection."""
    response = b""
    while not response.endswith(b"}") and (chunk := connection.recv(65_536)):
        response += chunk
    return response


def _assert_nothing_is_stored(url: str, settings: ServiceSettings) -> None:
    assert httpx2.get(f"{url}/v1/personalizations").json()["data"] == []
    assert ObjectStore(settings.object_store).names("") == []


def test_oversized_photo_is_refused_during_the_upload(url: str, settings: ServiceSettings) -> None:
    """The response is 413 after a little more than 10 MB of a photo with an announced size of 1 GB."""
    with _begin_upload(url) as connection:
        connection.sendall(b"\x89PNG\r\n\x1a\n" + b"\0" * 10_000_001)
        head, _, body = _read_all(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    problem = json.loads(body)
    assert (problem["code"], problem["errors"][0]["field"]) == ("image_too_large", "images")
    assert problem["detail"] == (
        "images: got 'huge.png' of more than 10,000,000 bytes; expected at most 10,000,000 bytes"
    )
    _assert_nothing_is_stored(url, settings)


def test_interrupted_upload_stores_nothing(url: str, settings: ServiceSettings, tmp_path: Path) -> None:
    """A disconnect within a photo leaves no row, object or traceback, and the next upload succeeds."""
    with _begin_upload(url) as connection:
        connection.sendall(photo()[:100])
    log = tmp_path / "api.log"
    wait_until(
        lambda: '"route": "/v1/personalizations", "status": 400' in log.read_text(), "the request's end"
    )
    assert "Traceback" not in log.read_text()
    _assert_nothing_is_stored(url, settings)
    next_upload = httpx2.post(
        f"{url}/v1/personalizations", files=parts(photo()), data={"request": json.dumps(REQUEST)}
    )
    assert next_upload.status_code == 202
