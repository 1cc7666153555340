"""Webhooks to a real HTTP server: signature, redirects, private addresses, slow receivers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from standardwebhooks.webhooks import Webhook

from api.app import create_app
from tests.integration.support.jobs import queue
from tests.integration.support.keys import make_key
from tests.integration.support.photos import create
from tests.integration.support.processes import wait_until
from tests.integration.support.workers import STUB, wait_for_job, worker
from worker.housekeeping import Housekeeper
from worker.webhook_sender import deliver
from zoodip_core.service import api_keys
from zoodip_core.service.database import Database
from zoodip_core.service.jobs import leases, webhooks
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.jobs.webhooks import Delivery
from zoodip_core.service.object_store import ObjectStore
from zoodip_core.service.settings import ServiceSettings
from zoodip_core.service.tables import webhook_deliveries


class Receiver(HTTPServer):
    """HTTP server that stores the messages it receives and answers `/moved` with a redirect to itself."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[str, dict[str, str], bytes]] = []

    def url(self, path: str) -> str:
        """Return the URL of a path on this server."""
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        """Store the message."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, dict(self.headers), body))
        self.send_response(307 if self.path == "/moved" else 204)
        self.send_header("Location", self.server.url("/hook"))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Write no log."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Running receiver."""
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_ended_job_sends_a_signed_webhook(settings: ServiceSettings, receiver: Receiver) -> None:
    """An ended job sends one message, and the official library verifies its signature."""
    settings.data_dir.mkdir()
    private = settings.model_copy(update={"webhook_private": True, "engine": STUB, "tick_s": 0.2})
    with (
        TestClient(create_app(private), base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client,
        worker(private),
    ):
        job_id = create(
            client, settings={"steps": 3}, webhook=receiver.url("/hook?a=b"), metadata={"a": "b"}
        ).json()["id"]
        wait_for_job(private, job_id, Status.SUCCEEDED)
        wait_until(lambda: bool(receiver.received), "a message")
    ((path, headers, body),) = receiver.received
    assert path == "/hook?a=b"
    message = Webhook(private.webhook_secrets[0]).verify(
        body.decode(), {k.lower(): v for k, v in headers.items()}
    )
    assert message["type"] == "personalization.succeeded"
    assert message["data"]["id"] == job_id
    assert message["data"]["metadata"] == {"a": "b"}


def _delivery(url: str) -> Delivery:
    return Delivery(
        id="msg_1", job_id="per_1", owner="local", url=url, payload="{}", attempts=1, created_at=0.0
    )


def test_redirect_is_not_followed(receiver: Receiver) -> None:
    """A 307 is the result of the delivery; its target receives no request."""
    assert deliver(_delivery(receiver.url("/moved")), (), time.time(), private=True) == 307
    assert [path for path, _, _ in receiver.received] == ["/moved"]


def test_name_with_a_private_address_is_refused(receiver: Receiver) -> None:
    """`localhost` is refused when it resolves to a loopback address, and nothing is sent."""
    url = receiver.url("/hook").replace("127.0.0.1", "localhost")
    assert deliver(_delivery(url), (), time.time()) is None
    assert receiver.received == []


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("https://exa mple.org/", "whsec_c2VjcmV0"),
        ("https://[::1/", "whsec_c2VjcmV0"),
        ("https://example.org/", "x"),
    ],
)
def test_bad_url_or_secret_is_a_failed_delivery(url: str, secret: str) -> None:
    """A malformed stored URL or secret counts as a failed delivery and raises no error."""
    assert deliver(_delivery(url), (secret,), time.time()) is None


@pytest.fixture
def tarpit() -> Iterator[socket.socket]:
    """Server that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield server


def _end_with_webhook(database: Database, url: str, owner: str = api_keys.LOCAL_OWNER) -> None:
    job = queue(database, webhook=url, owner=owner)
    with database.write() as connection:
        running = leases.claim(connection, job.id, "w", time.time(), 30.0)
        assert running is not None
        leases.finish(connection, leases.lease_of(running), Status.FAILED, time.time(), {})


@contextmanager
def _housekeeping(database: Database, settings: ServiceSettings) -> Iterator[None]:
    changed = settings.model_copy(update={"webhook_private": True, "tick_s": 0.05})
    housekeeper = Housekeeper(database, ObjectStore(settings.object_store), changed)
    thread = threading.Thread(target=housekeeper.run)
    thread.start()
    try:
        yield
    finally:
        housekeeper.stop()
        thread.join()


def test_silent_receiver_delays_only_its_own_messages(
    database: Database, settings: ServiceSettings, receiver: Receiver, tarpit: socket.socket
) -> None:
    """40 messages to a silent receiver do not delay another one; the silent one gets one request at a time."""
    silent = f"http://127.0.0.1:{tarpit.getsockname()[1]}/"
    for _ in range(40):
        _end_with_webhook(database, silent)
    _end_with_webhook(database, receiver.url("/hook"))
    with _housekeeping(database, settings):
        wait_until(lambda: bool(receiver.received), "the message")
        with database.write() as connection:
            excluded = [(api_keys.LOCAL_OWNER, receiver.url("/hook"))]
            assert webhooks.claim_due(connection, time.time(), excluded_receivers=excluded) is not None
    tarpit.settimeout(0)
    with tarpit.accept()[0], suppress(BlockingIOError):
        tarpit.accept()
        pytest.fail("a second request was sent before the first ended")


def test_many_silent_receivers_delay_only_their_owner(
    database: Database, settings: ServiceSettings, receiver: Receiver, tarpit: socket.socket
) -> None:
    """80 silent URLs of one owner do not delay the message of another one, not even to one of these URLs."""
    make_key(settings, owner="slow")
    make_key(settings, owner="other")
    for number in range(80):
        _end_with_webhook(database, f"http://127.0.0.1:{tarpit.getsockname()[1]}/{number}", "slow")
    _end_with_webhook(database, receiver.url("/hook"), "other")
    with _housekeeping(database, settings):
        wait_until(lambda: bool(receiver.received), "the message")
    shared = receiver.url("/shared")
    _end_with_webhook(database, shared, "slow")
    _end_with_webhook(database, shared, "other")
    with database.write() as connection:
        excluded = [("slow", shared)]
        found = webhooks.claim_due(
            connection, time.time(), excluded_receivers=excluded, excluded_owners=["slow"]
        )
        assert found is not None
        assert found.receiver == ("other", shared)


def test_message_of_an_owner_without_keys_is_abandoned(
    database: Database, settings: ServiceSettings, receiver: Receiver
) -> None:
    """After its owner's last key is revoked a message is not sent, neither unsigned nor with another's secret."""
    make_key(settings, owner="left")
    _end_with_webhook(database, receiver.url("/hook"), "left")
    with database.write() as connection:
        (key,) = api_keys.list_all(connection)
        api_keys.revoke(connection, key.id, time.time())

    def is_abandoned() -> bool:
        with database.read() as connection:
            (due_at,) = connection.execute(select(webhook_deliveries.c.due_at)).scalars()
        return due_at is None

    with _housekeeping(database, settings):
        wait_until(is_abandoned, "the end of the delivery")
    assert receiver.received == []


def test_slow_response_is_cut_off(tarpit: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A response that arrives byte by byte fails at the total deadline."""
    monkeypatch.setattr("worker.webhook_sender.DEADLINE_S", 0.5)
    ended = threading.Event()

    def drip() -> None:
        connection, _ = tarpit.accept()
        with connection, suppress(OSError):
            while not ended.wait(0.05):
                connection.sendall(b"H")

    dripping = threading.Thread(target=drip)
    dripping.start()
    results: list[int | None] = []
    url = f"http://127.0.0.1:{tarpit.getsockname()[1]}/"
    sending = threading.Thread(
        target=lambda: results.append(deliver(_delivery(url), (), time.time(), private=True)), daemon=True
    )
    sending.start()
    sending.join(20)
    ended.set()
    dripping.join()
    assert results == [None]
