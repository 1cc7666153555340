"""What may wait, on threads of its own: webhooks delivered, old things dropped."""

from __future__ import annotations

import threading
import time

import structlog

from worker.leased_writes import DATABASE_UNAVAILABLE
from worker.webhook_sender import deliver
from zoodip_core.errors import ZoodipError
from zoodip_core.service import api_keys, retention
from zoodip_core.service.database import Database
from zoodip_core.service.jobs import webhooks
from zoodip_core.service.jobs.webhooks import Delivery
from zoodip_core.service.object_store import ObjectStore
from zoodip_core.service.settings import ServiceSettings

_AT_ONCE = 16
_MOMENT_S = 1.5
_PURGE_EVERY_S = 600.0
_ORPHANS_EVERY_S = 86_400.0  # it lists the whole store

_log = structlog.get_logger("zoodip.worker")


class Housekeeper:
    """Delivers what is due and drops what is old, now and then."""

    def __init__(self, database: Database, objects: ObjectStore, settings: ServiceSettings) -> None:
        self._database = database
        self._objects = objects
        self._settings = settings
        self._stopped = threading.Event()
        self._under_way: dict[str, threading.Thread] = {}  # by URL
        self._purge_at = 0.0
        self._orphans_at = 0.0

    def stop(self) -> None:
        """Begin nothing more; what is under way gets a moment to end."""
        self._stopped.set()

    def run(self) -> None:
        """Deliver until stopped."""
        while not self._stopped.wait(self._settings.tick_s):
            try:
                self._deliver_due()
                self._purge()
            except DATABASE_UNAVAILABLE:
                continue  # the attendant tells of it
            except ZoodipError as error:
                _log.warning("purge_failed", code=error.code)
        end = time.monotonic() + _MOMENT_S
        for thread in self._under_way.values():
            thread.join(max(0.0, end - time.monotonic()))

    def _deliver_due(self) -> None:
        """Begin what is due: each URL's messages one after the other, so that a slow one delays only its own."""
        self._under_way = {url: thread for url, thread in self._under_way.items() if thread.is_alive()}
        while len(self._under_way) < _AT_ONCE:
            with self._database.write() as connection:
                delivery = webhooks.claim_due(connection, time.time(), excluded_urls=self._under_way)
            if delivery is None:
                return
            thread = threading.Thread(target=self._deliver, args=(delivery,), name="webhook", daemon=True)
            self._under_way[delivery.url] = thread
            thread.start()

    def _deliver(self, delivery: Delivery) -> None:
        """Deliver it, and what else is due to its URL."""
        following: Delivery | None = delivery
        while following is not None:
            following = self._deliver_one(following)

    def _deliver_one(self, delivery: Delivery) -> Delivery | None:
        """Deliver it; what is due to its URL next."""
        try:
            with self._database.read() as connection:
                secrets = api_keys.webhook_secrets_of(connection, delivery.owner)
            status = deliver(
                delivery,
                secrets or self._settings.webhook_secrets,
                time.time(),
                private=self._settings.webhook_private,
            )
            with self._database.write() as connection:
                webhooks.record_result(connection, delivery, status, time.time())
            _log.info("webhook", job_id=delivery.job_id, status=status, attempt=delivery.attempts)
            if self._stopped.is_set():
                return None
            with self._database.write() as connection:
                return webhooks.claim_due(connection, time.time(), url=delivery.url)
        except DATABASE_UNAVAILABLE:
            _log.warning("webhook_unsettled", job_id=delivery.job_id)  # it is due again after a while
            return None

    def _purge(self) -> None:
        if time.monotonic() >= self._purge_at:
            purged = retention.purge(self._database, self._objects, self._settings, time.time())
            self._purge_at = time.monotonic() + (0.0 if purged else _PURGE_EVERY_S)  # until none is left
        if time.monotonic() >= self._orphans_at:
            retention.purge_orphans(self._database, self._objects, self._settings, time.time())
            self._orphans_at = time.monotonic() + _ORPHANS_EVERY_S
