"""Bodies that never end, against a real API process: refused while they stream, and nothing is left of them."""

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
    """The embedded default."""
    return f"sqlite:///{tmp_path / 'zoodip.sqlite3'}"


@pytest.fixture
def url(settings: ServiceSettings, tmp_path: Path) -> Iterator[str]:
    """A running API."""
    settings.data_dir.mkdir()
    with api(settings.model_copy(update={"log_level": "INFO"}), tmp_path / "api.log") as url:
        yield url


def _begin(url: str) -> socket.socket:
    """A connection on which a photo of a gigabyte is announced and not yet sent."""
    place = urlsplit(url)
    connection = socket.create_connection((place.hostname, place.port), timeout=30)
    connection.sendall(
        f"POST /v1/personalizations HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: {_GIGABYTE}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        '--x\r\nContent-Disposition: form-data; name="request"\r\n\r\n'
        f"{json.dumps(REQUEST)}\r\n"
        '--x\r\nContent-Disposition: form-data; name="images"; filename="huge.png"\r\n\r\n'.encode()
    )
    return connection


def _read_all(connection: socket.socket) -> bytes:
    """The answer, to the end of its connection or of its JSON."""
    answer = b""
    while not answer.endswith(b"}") and (more := connection.recv(65_536)):
        answer += more
    return answer


def _nothing_is_left(url: str, settings: ServiceSettings) -> None:
    assert httpx2.get(f"{url}/v1/personalizations").json()["data"] == []
    assert ObjectStore(settings.object_store).names("") == []


def test_a_photo_is_capped_while_it_streams(url: str, settings: ServiceSettings) -> None:
    """Of an announced gigabyte 10 MB and a bit are sent: the 413 comes without the rest."""
    with _begin(url) as connection:
        connection.sendall(b"\x89PNG\r\n\x1a\n" + b"\0" * 10_000_001)
        head, _, body = _read_all(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    answer = json.loads(body)
    assert (answer["code"], answer["errors"][0]["field"]) == ("image_too_large", "images")
    assert "huge.png" in answer["detail"]
    _nothing_is_left(url, settings)


def test_a_client_that_goes_away_in_mid_upload_leaves_nothing(
    url: str, settings: ServiceSettings, tmp_path: Path
) -> None:
    """The connection breaks after half a photo: no row, no object, no fault in the log; the next upload is served."""
    with _begin(url) as connection:
        connection.sendall(photo()[:100])
    log = tmp_path / "api.log"
    wait_until(
        lambda: '"route": "/v1/personalizations", "status": 400' in log.read_text(), "the request's end"
    )
    assert "Traceback" not in log.read_text()
    _nothing_is_left(url, settings)
    good = httpx2.post(
        f"{url}/v1/personalizations", files=parts(photo()), data={"request": json.dumps(REQUEST)}
    )
    assert good.status_code == 202
