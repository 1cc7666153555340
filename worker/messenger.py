"""Webhooks delivered (Standard Webhooks), and old things dropped: on a thread that may wait."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from urllib.parse import SplitResult, urlsplit

import structlog

from worker.ledger import AWAY
from zoodip_core.errors import ZoodipError
from zoodip_core.jobs import keys, retention, webhooks
from zoodip_core.jobs.database import Database
from zoodip_core.jobs.objects import ObjectStore
from zoodip_core.jobs.settings import ServiceSettings
from zoodip_core.jobs.webhooks import Delivery

_TIMEOUT_S = 10.0
_PURGE_EVERY_S = 600.0
_ORPHANS_EVERY_S = 86_400.0  # it lists the whole store

_log = structlog.get_logger("zoodip.worker")


class Messenger:
    """Delivers what is due, now and then."""

    def __init__(self, database: Database, objects: ObjectStore, settings: ServiceSettings) -> None:
        self._database = database
        self._objects = objects
        self._settings = settings
        self._stopped = threading.Event()
        self._purge_at = 0.0
        self._orphans_at = 0.0

    def stop(self) -> None:
        """End after the message under way."""
        self._stopped.set()

    def run(self) -> None:
        """Deliver until stopped."""
        while not self._stopped.wait(self._settings.tick_s):
            try:
                self._deliver_due()
                self._purge()
            except AWAY:
                continue  # the attendant tells of it
            except ZoodipError as error:
                _log.warning("purge_failed", code=error.code)

    def _deliver_due(self) -> None:
        with self._database.write() as connection:
            due = webhooks.take_due(connection, time.time())
        for delivery in due:
            with self._database.read() as connection:
                secrets = keys.webhook_secrets_of(connection, delivery.owner)
            status = deliver(
                delivery,
                secrets or self._settings.webhook_secrets,
                time.time(),
                private=self._settings.webhook_private,
            )
            with self._database.write() as connection:
                webhooks.settle(connection, delivery, status, time.time())
            _log.info("webhook", job_id=delivery.job_id, status=status, attempt=delivery.attempts)

    def _purge(self) -> None:
        if time.monotonic() >= self._purge_at:
            purged = retention.purge(self._database, self._objects, self._settings, time.time())
            self._purge_at = time.monotonic() + (0.0 if purged else _PURGE_EVERY_S)  # until none is left
        if time.monotonic() >= self._orphans_at:
            retention.purge_orphans(self._database, self._objects, self._settings, time.time())
            self._orphans_at = time.monotonic() + _ORPHANS_EVERY_S


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
    with closing(_connection(parts, private=private)) as connection:
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
    connection: http.client.HTTPConnection
    if secure:
        connection = http.client.HTTPSConnection(
            host, port, timeout=_TIMEOUT_S, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)

    def connect(_address: object, timeout: float, source: object) -> socket.socket:
        return socket.create_connection(public_address(host, port, private=private), timeout, source)  # type: ignore[arg-type]

    connection._create_connection = connect  # type: ignore[attr-defined]  # http.client's own seam
    return connection
