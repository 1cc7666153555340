"""An API process with few file descriptors answers while clients hold idle and half-open connections."""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest

from api import connections
from api.connections import LimitedConfig, LimitedServer
from tests.integration.support.processes import free_port, server, wait_until
from tests.integration.support.workers import ROOT, environment
from zoodip_core.service.settings import ServiceSettings

_DESCRIPTORS = 1_024
_IDLE = 1_100


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """URL of the default SQLite database."""
    return f"sqlite:///{tmp_path / 'zoodip.sqlite3'}"


@pytest.fixture
def own_descriptors() -> Iterator[None]:
    """Allow this process the sockets of the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8_192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("own_descriptors")
def test_idle_connections_do_not_stop_the_api(settings: ServiceSettings, tmp_path: Path) -> None:
    """With 1,100 idle sockets and 1,024 descriptors, requests are answered and the log stays short."""
    settings.data_dir.mkdir()
    port, log = free_port(), tmp_path / "api.log"
    limited = f'ulimit -n {_DESCRIPTORS}; exec "$0" -m api --port {port}'
    command = ["bash", "-c", limited, sys.executable]
    variables = environment(settings.model_copy(update={"log_level": "WARNING"}))
    with server(command, port, log, cwd=ROOT, env=variables), ExitStack() as held:
        for number in range(_IDLE):
            idle = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            if number % 2:
                idle.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        for path in ("/livez", "/v1/concepts", "/v1/unknown"):
            status = httpx2.get(f"http://127.0.0.1:{port}{path}", timeout=30).status_code
            assert status == (404 if path == "/v1/unknown" else 200)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) < 100
    assert "connection_limit_reached" in {line["event"] for line in lines}


async def _answer(scope: dict[str, object], receive: object, send: object) -> None:
    """Answer each request without reading its body."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b"ok"})  # type: ignore[operator]


@contextmanager
def _serve(max_connections: int) -> Iterator[tuple[str, int]]:
    config = LimitedConfig(
        _answer, max_connections=max_connections, port=free_port(), lifespan="off", log_config=None
    )
    running = LimitedServer(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        wait_until(lambda: running.started, "the server")
        yield "127.0.0.1", config.port
    finally:
        running.should_exit = True
        thread.join()


def _is_closed(connection: socket.socket) -> bool:
    """Wait for the end of a connection."""
    connection.settimeout(30)
    try:
        while connection.recv(65_536):
            pass
    except ConnectionError:
        return True
    return True


def _request(connection: socket.socket) -> None:
    """Send a request and read its response."""
    connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    connection.settimeout(30)
    response = b""
    while not response.endswith(b"ok"):
        received = connection.recv(65_536)
        assert received, response
        response += received


_STARTS = {
    "idle": b"",
    "half a head": b"GET / HTTP/1.1\r\nHost: a\r\n",
    "between requests": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "after a request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n",
    "unread body": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc",
}


@pytest.mark.parametrize("start", _STARTS)
def test_connection_without_a_complete_request_is_closed(start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection is closed if no complete request arrives, whatever it sent before."""
    monkeypatch.setattr(connections, "WAIT_S", 1)
    with _serve(10) as address, socket.create_connection(address) as connection:
        connection.sendall(_STARTS[start])
        assert _is_closed(connection)


def test_longest_waiting_connection_makes_room() -> None:
    """Beyond the limit, a new connection closes the one that waits longest, not one that was used since."""
    with _serve(3) as address, ExitStack() as held:
        first, second, third = (held.enter_context(socket.create_connection(address)) for _ in range(3))
        for connection in (second, third, first):
            _request(connection)
        newest = held.enter_context(socket.create_connection(address))
        assert _is_closed(second)
        for connection in (first, third, newest):
            _request(connection)


def test_limit_follows_the_descriptors() -> None:
    """The limit is half of the descriptors of the process, at most 4,000."""
    for files, limit in ((256, 128), (_DESCRIPTORS, 512), (4_096, 2_048)):
        shown = "from api.connections import connection_limit; print(connection_limit())"
        command = ["bash", "-c", f'ulimit -n {files}; exec "$0" -c "{shown}"', sys.executable]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert int(done.stdout) == limit
