"""The end of a job is told: to a real receiver, with a signature that the official library verifies."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from fastapi.testclient import TestClient
from standardwebhooks.webhooks import Webhook

from api.app import create_app
from tests.integration.support.jobs import queue
from tests.integration.support.photos import create
from tests.integration.support.processes import wait_until
from tests.integration.support.workers import STUB, wait_for_job, worker
from worker.housekeeping import Housekeeper
from worker.webhook_sender import deliver
from zoodip_core.service.database import Database
from zoodip_core.service.jobs import leases, webhooks
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.jobs.webhooks import Delivery
from zoodip_core.service.object_store import ObjectStore
from zoodip_core.service.settings import ServiceSettings


class Receiver(HTTPServer):
    """A receiver of webhooks that keeps what comes; it answers `/moved` with a redirect to itself."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.received: list[tuple[str, dict[str, str], bytes]] = []

    def url(self, path: str) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Answer(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        """Keep the message."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, dict(self.headers), body))
        self.send_response(307 if self.path == "/moved" else 204)
        self.send_header("Location", self.server.url("/hook"))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A running receiver."""
    listening = Receiver()
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield listening
    listening.shutdown()
    thread.join()
    listening.server_close()


def test_the_end_of_a_job_is_told_to_its_webhook(settings: ServiceSettings, receiver: Receiver) -> None:
    """One signed message that the official library verifies."""
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


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    """A 307 is the receiver's answer, as any other; where it points is not called."""
    assert deliver(_delivery(receiver.url("/moved")), (), time.time(), private=True) == 307
    assert [path for path, _, _ in receiver.received] == ["/moved"]


def test_a_name_of_this_machine_is_not_called(receiver: Receiver) -> None:
    """`localhost` passes as a name and is refused at the connection: nothing arrives."""
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
def test_what_cannot_be_called_or_signed_is_an_answer_that_did_not_come(url: str, secret: str) -> None:
    """A stored URL or secret that is no such thing ends no thread: it counts as a failed delivery."""
    assert deliver(_delivery(url), (secret,), time.time()) is None


@pytest.fixture
def tarpit() -> Iterator[socket.socket]:
    """A receiver that takes connections and says nothing by itself."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield listening


def _end_with_webhook(database: Database, url: str) -> None:
    job = queue(database, webhook=url)
    with database.write() as connection:
        running = leases.claim(connection, job.id, "w", time.time(), 30.0)
        assert running is not None
        leases.finish(connection, leases.lease_of(running), Status.FAILED, time.time(), {})


def test_a_receiver_that_does_not_answer_delays_its_own_messages_only(
    database: Database, settings: ServiceSettings, receiver: Receiver, tarpit: socket.socket
) -> None:
    """Many wait for one that is silent: another one's comes at once, and the silent one is called once."""
    silent = f"http://127.0.0.1:{tarpit.getsockname()[1]}/"
    for _ in range(40):
        _end_with_webhook(database, silent)
    _end_with_webhook(database, receiver.url("/hook"))
    changed = settings.model_copy(update={"webhook_private": True, "tick_s": 0.05})
    messenger = Housekeeper(database, ObjectStore(settings.object_store), changed)
    thread = threading.Thread(target=messenger.run)
    thread.start()
    try:
        wait_until(lambda: bool(receiver.received), "the message")
        with database.write() as connection:
            assert webhooks.take_due(connection, time.time(), besides=[receiver.url("/hook")]) is not None
    finally:
        messenger.stop()
        thread.join()
    tarpit.settimeout(0)
    with tarpit.accept()[0], suppress(BlockingIOError):
        tarpit.accept()
        pytest.fail("a second call while the first waits")


def test_a_receiver_that_drips_is_cut_off(tarpit: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps no thread: the whole of an answer has a time."""
    monkeypatch.setattr("worker.webhook_sender.WITHIN_S", 0.5)
    ended = threading.Event()

    def drip() -> None:
        connection, _ = tarpit.accept()
        with connection, suppress(OSError):
            while not ended.wait(0.05):
                connection.sendall(b"H")

    dripping = threading.Thread(target=drip)
    dripping.start()
    answers: list[int | None] = []
    url = f"http://127.0.0.1:{tarpit.getsockname()[1]}/"
    asking = threading.Thread(
        target=lambda: answers.append(deliver(_delivery(url), (), time.time(), private=True)), daemon=True
    )
    asking.start()
    asking.join(20)
    ended.set()
    dripping.join()
    assert answers == [None]
