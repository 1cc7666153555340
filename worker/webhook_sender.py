"""One webhook message sent (Standard Webhooks): signed, to a public address, within a time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from urllib.parse import SplitResult, urlsplit

import structlog

from zoodip_core.service.jobs.webhooks import Delivery

WITHIN_S = 30.0
"""From the connection to the answer's headers: one who drips a byte now and then is no longer waited for."""

_SILENCE_S = 10.0

_log = structlog.get_logger("zoodip.worker")


def deliver(delivery: Delivery, secrets: Sequence[str], now: float, *, private: bool = False) -> int | None:
    """Send one message; the receiver's status, or None if none came. Redirects are not followed.

    Args:
        delivery: what to send where.
        secrets: each signs, so that a rotated one still verifies.
        now: seconds since 1970.
        private: allow http and addresses that are not public.
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
    with closing(_connection(parts, private=private)) as connection, _cut_after(connection, WITHIN_S):
        connection.request("POST", target, delivery.payload.encode(), headers)
        return connection.getresponse().status


def sign(secret: str, message_id: str, timestamp: str, payload: str) -> str:
    """The `v1,` signature of a message."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{message_id}.{timestamp}.{payload}".encode()
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()


def public_address(host: str, port: int, *, private: bool = False) -> tuple[str, int]:
    """The address to connect to: checked here and used as it is, so no second look-up can differ.

    Raises:
        OSError: no such host, or one of its addresses is not public.
    """
    found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for address in found:
        parsed = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(parsed, "ipv4_mapped", None) or parsed
        if not private and (not mapped.is_global or mapped.is_multicast):
            raise OSError(f"{host} has an address that is not public")
    return found[0], port


def _connection(parts: SplitResult, *, private: bool) -> http.client.HTTPConnection:
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    address = public_address(host, port, private=private)  # before the time runs: a look-up may be slow
    connection: http.client.HTTPConnection
    if secure:
        connection = http.client.HTTPSConnection(
            host, port, timeout=_SILENCE_S, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=_SILENCE_S)

    def connect(_address: object, timeout: float, source: object) -> socket.socket:
        return socket.create_connection(address, timeout, source)  # type: ignore[arg-type]

    connection._create_connection = connect  # type: ignore[attr-defined]  # http.client's own seam
    return connection


@contextmanager
def _cut_after(connection: http.client.HTTPConnection, seconds: float) -> Iterator[None]:
    """Shut the connection down when the time is over: a timeout of http.client's counts from each byte."""

    def cut() -> None:
        with suppress(OSError, AttributeError):  # closed, or not open yet
            connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
