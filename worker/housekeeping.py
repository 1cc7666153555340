"""Background thread for deferrable work: delivers webhooks and purges expired data."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence

import structlog

from worker.leased_writes import DATABASE_UNAVAILABLE
from worker.webhook_sender import deliver
from zoodip_core.errors import ZoodipError
from zoodip_core.service import api_keys, retention
from zoodip_core.service.database import Database
from zoodip_core.service.jobs import webhooks
from zoodip_core.service.jobs.webhooks import Delivery, Receiver
from zoodip_core.service.object_store import ObjectStore
from zoodip_core.service.settings import ServiceSettings

_MAX_SENDERS = 64
_MAX_SENDERS_OF_OWNER = 4  # so that the slow receivers of one owner do not delay those of others
_STOP_GRACE_S = 1.5
_PURGE_EVERY_S = 600.0
_ORPHANS_EVERY_S = 86_400.0  # the orphan cleanup lists the whole object store

_log = structlog.get_logger("zoodip.worker")


class Housekeeper:
    """Delivers due webhooks at every tick, purges expired data every 10 minutes and orphans daily."""

    def __init__(self, database: Database, objects: ObjectStore, settings: ServiceSettings) -> None:
        self._database = database
        self._objects = objects
        self._settings = settings
        self._stop_event = threading.Event()
        self._senders: dict[Receiver, threading.Thread] = {}
        self._next_purge_at = 0.0
        self._next_orphan_purge_at = 0.0

    def stop(self) -> None:
        """Start no further delivery; `run` gives those in progress 1.5 seconds to finish."""
        self._stop_event.set()

    def run(self) -> None:
        """Deliver and purge until stopped."""
        while not self._stop_event.wait(self._settings.tick_s):
            try:
                self._deliver_due()
                self._purge()
            except DATABASE_UNAVAILABLE:
                continue  # the heartbeat thread logs it
            except ZoodipError as error:
                _log.warning("purge_failed", code=error.code)
        end = time.monotonic() + _STOP_GRACE_S
        for thread in self._senders.values():
            thread.join(max(0.0, end - time.monotonic()))

    def _deliver_due(self) -> None:
        """Start one thread for each receiver with due messages, so that a slow one delays only its own."""
        self._senders = {receiver: thread for receiver, thread in self._senders.items() if thread.is_alive()}
        while len(self._senders) < _MAX_SENDERS:
            owners = Counter(owner for owner, _ in self._senders)
            with self._database.write() as connection:
                delivery = webhooks.claim_due(
                    connection,
                    time.time(),
                    excluded_receivers=self._senders,
                    excluded_owners=[owner for owner, n in owners.items() if n >= _MAX_SENDERS_OF_OWNER],
                )
            if delivery is None:
                return
            thread = threading.Thread(target=self._deliver, args=(delivery,), name="webhook", daemon=True)
            self._senders[delivery.receiver] = thread
            thread.start()

    def _deliver(self, delivery: Delivery) -> None:
        """Send a message and all further due messages of its receiver, one after the other."""
        following: Delivery | None = delivery
        while following is not None:
            following = self._deliver_one(following)

    def _deliver_one(self, delivery: Delivery) -> Delivery | None:
        """Send or abandon one message, and return the next due message of its receiver."""
        try:
            secrets = self._secrets_of(delivery.owner)
            if secrets:
                self._send(delivery, secrets)
            else:
                with self._database.write() as connection:
                    webhooks.abandon(connection, delivery)
                _log.warning(
                    "webhook_abandoned", job_id=delivery.job_id, reason="the owner has no active key"
                )
            if self._stop_event.is_set():
                return None
            with self._database.write() as connection:
                return webhooks.claim_due(connection, time.time(), receiver=delivery.receiver)
        except DATABASE_UNAVAILABLE:
            _log.warning("webhook_result_not_recorded", job_id=delivery.job_id)  # it becomes due again
            return None

    def _send(self, delivery: Delivery, secrets: Sequence[str]) -> None:
        status = deliver(delivery, secrets, time.time(), private=self._settings.webhook_private)
        with self._database.write() as connection:
            webhooks.record_result(connection, delivery, status, time.time())
        _log.info("webhook_sent", job_id=delivery.job_id, status=status, attempt=delivery.attempts)

    def _secrets_of(self, owner: str) -> Sequence[str]:
        """Return the signing secrets of the owner's keys, or those of the settings for a service without keys."""
        with self._database.read() as connection:
            secrets = api_keys.webhook_secrets_of(connection, owner)
        return secrets or (self._settings.webhook_secrets if owner == api_keys.LOCAL_OWNER else ())

    def _purge(self) -> None:
        if time.monotonic() >= self._next_purge_at:
            purged = retention.purge(self._database, self._objects, self._settings, time.time())
            pause_s = 0.0 if purged else _PURGE_EVERY_S  # a purge is limited: repeat until none is left
            self._next_purge_at = time.monotonic() + pause_s
        if time.monotonic() >= self._next_orphan_purge_at:
            retention.purge_orphans(self._database, self._objects, self._settings, time.time())
            self._next_orphan_purge_at = time.monotonic() + _ORPHANS_EVERY_S
