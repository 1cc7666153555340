"""Many or slow uploads leave the API usable: other requests are answered, and further uploads get 503 or 408."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from fastapi.testclient import TestClient

from api import body_deadlines
from api.requests.upload_slots import MAX_OPEN
from tests.integration.support.apis import api, api_thread
from tests.integration.support.keys import make_key
from tests.integration.support.photos import create, photo
from tests.integration.support.processes import wait_until
from zoodip_core.service.database import Database, acquire_creation_lock
from zoodip_core.service.settings import ServiceSettings

_WAITING = 45  # more than all threads of requests


def _begin(
    url: str, headers: dict[str, str], body: bytes, path: str = "/v1/personalizations"
) -> socket.socket:
    """Send the headers of a request and the start of its body."""
    address = urlsplit(url)
    connection = socket.create_connection((address.hostname, address.port), timeout=30)
    lines = [f"POST {path} HTTP/1.1", f"Host: {address.netloc}", "Content-Length: 1000"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    return connection


_FORM = {"Content-Type": "multipart/form-data; boundary=x"}
_HALF = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n' + photo()[:50]


def test_half_open_uploads_of_one_owner(settings: ServiceSettings, tmp_path: Path) -> None:
    """One owner can hold half of the slots. Its next upload gets 503; other owners and requests are served."""
    database = Database(settings.database)
    database.migrate()
    database.close()
    mine, other = make_key(settings), make_key(settings)
    with api(settings, tmp_path / "api.log") as url, ExitStack() as held:

        def begin_upload() -> None:
            held.enter_context(_begin(url, {**_FORM, **mine}, _HALF))

        def post(headers: dict[str, str]) -> httpx2.Response:
            return httpx2.post(f"{url}/v1/concepts", files={"token": b"<a>"}, headers=headers, timeout=60)

        def is_refused() -> bool:
            begin_upload()  # on a slow machine the first ones can have ended
            return post(mine).status_code == 503

        for _ in range(MAX_OPEN // 2):
            begin_upload()
        wait_until(is_refused, "the refusal of an upload", timeout_s=60)
        refused = post(mine)
        assert (refused.status_code, refused.json()["code"]) == (503, "uploads_busy")
        assert int(refused.headers["Retry-After"]) > 0
        assert post(other).status_code == 422
        for path, status in (("/livez", 200), ("/v1/concepts", 200), ("/v1/unknown", 404)):
            assert httpx2.get(f"{url}{path}", headers=mine, timeout=60).status_code == status
        held.close()
        wait_until(lambda: post(mine).status_code == 422, "free slots after the disconnects")


def test_waiting_uploads_occupy_no_threads_of_other_requests(
    client: TestClient, settings: ServiceSettings
) -> None:
    """While uploads wait for the database, routes with and without threads and errors are answered."""
    database = Database(settings.database)
    sent = threading.Semaphore(0)

    def upload(number: int) -> int:
        sent.release()
        return int(create(client, token=f"<dog-{number}>").status_code)

    with ThreadPoolExecutor(_WAITING) as pool:
        with database.write() as connection:
            acquire_creation_lock(connection)
            uploads = [pool.submit(upload, number) for number in range(_WAITING)]
            for _ in uploads:
                sent.acquire()
            for path, status in (
                ("/livez", 200),
                ("/v1/concepts", 200),
                ("/v1/unknown", 404),
                ("/readyz", 503),
            ):
                assert client.get(path).status_code == status
            assert not any(found.done() for found in uploads)
        assert {found.result() for found in uploads} == {202}
    database.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait only a second for the next chunk of a body."""
    monkeypatch.setattr(body_deadlines, "MAX_PAUSE_S", 1.0)


@pytest.mark.usefixtures("hasty")
def test_body_that_stops_gets_408(settings: ServiceSettings) -> None:
    """A body that stops gets 408 and its connection is closed: of an upload, and of a JSON request."""
    with api_thread(settings) as url:
        bodies = (
            (_FORM, _HALF, "/v1/personalizations"),
            ({"Content-Type": "application/json"}, b"{", "/v1/generations"),
        )
        for headers, body, path in bodies:
            with _begin(url, headers, body, path) as connection:
                response = b""
                while received := connection.recv(65_536):
                    response += received
            assert response.startswith(b"HTTP/1.1 408 "), response
            assert b'"code":"request_timeout"' in response
        assert httpx2.get(f"{url}/v1/personalizations").json()["data"] == []
