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
from zoodip_core.service.public_addresses import is_public

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
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with closing(_connection(parts, private=private)) as connection, _deadline(connection, DEADLINE_S):
        connection.request("POST", target, delivery.payload.encode(), headers)
        return connection.getresponse().status


def sign(secret: str, message_id: str, timestamp: str, payload: str) -> str:
    """Return the `v1,` signature (HMAC-SHA256) of a message."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{message_id}.{timestamp}.{payload}".encode()
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()


def public_address(host: str, port: int, *, private: bool = False) -> tuple[str, int]:
    """Resolve a host to an address that is safe to connect to.

    The caller connects to this address directly, so a second DNS lookup cannot return another one.

    Raises:
        OSError: the host is unknown, or one of its addresses is not public.
    """
    addresses = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for address in addresses:
        if not private and not is_public(address):
            raise OSError(f"the host {host} has an address that is not public")
    return addresses[0], port


def _connection(parts: SplitResult, *, private: bool) -> http.client.HTTPConnection:
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    # Resolve before the deadline starts, because a DNS lookup may be slow.
    address = public_address(host, port, private=private)
    connection: http.client.HTTPConnection
    if secure:
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
