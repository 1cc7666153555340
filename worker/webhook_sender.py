"""Sends one webhook message: signed as Standard Webhooks, only to public addresses, with a total deadline."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from urllib.parse import SplitResult, urlsplit

import structlog

from zoodip_core.service.jobs.webhooks import Delivery
from zoodip_core.service.outbound_urls import host_and_port, resolve, target

DEADLINE_S = 30.0
"""Total deadline from connect to response headers; also stops slow-drip receivers."""

_SOCKET_TIMEOUT_S = 10.0

_log = structlog.get_logger("zoodip.worker")


def deliver(delivery: Delivery, secrets: Sequence[str], now: float, *, private: bool = False) -> int | None:
    """Send one message; return the response status, or None without a response. Redirects are not followed.

    Args:
        delivery: message and URL.
        secrets: signing keys; each adds a signature, so that receivers can verify with a rotated key.
        now: seconds since 1970.
        private: allow http and non-public addresses.
    """
    try:
        return _post(delivery, secrets, str(int(now)), private=private)
    except (OSError, http.client.HTTPException, ValueError) as error:
        _log.info("webhook_unreachable", job_id=delivery.job_id, error=type(error).__name__)
        return None


def _post(delivery: Delivery, secrets: Sequence[str], timestamp: str, *, private: bool) -> int:
    parts = urlsplit(delivery.url)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "zoodip",
        "webhook-id": delivery.id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(sign(s, delivery.id, timestamp, delivery.payload) for s in secrets),
    }
    with closing(_connection(parts, private=private)) as connection, _deadline(connection, DEADLINE_S):
        connection.request("POST", target(parts), delivery.payload.encode(), headers)
        return connection.getresponse().status


def sign(secret: str, message_id: str, timestamp: str, payload: str) -> str:
    """Return the `v1,` signature (HMAC-SHA256) of a message."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{message_id}.{timestamp}.{payload}".encode()
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()


def _connection(parts: SplitResult, *, private: bool) -> http.client.HTTPConnection:
    host, port = host_and_port(parts)
    # Resolve before the deadline starts, because a DNS lookup may be slow.
    address = resolve(host, port, private=private), port
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(
            host, port, timeout=_SOCKET_TIMEOUT_S, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=_SOCKET_TIMEOUT_S)

    def connect(_address: object, timeout: float, source: object) -> socket.socket:
        return socket.create_connection(address, timeout, source)  # type: ignore[arg-type]

    connection._create_connection = connect  # type: ignore[attr-defined]  # the hook of http.client
    return connection


@contextmanager
def _deadline(connection: http.client.HTTPConnection, seconds: float) -> Iterator[None]:
    """Shut the connection down after a deadline, because timeouts of http.client restart with each byte."""

    def shut_down() -> None:
        with suppress(OSError, AttributeError):  # closed, or not open yet
            connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, shut_down)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
