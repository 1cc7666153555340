"""Worker process: creates its threads, starts and drains them."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable

import structlog

from worker.engine_loop import EngineLoop
from worker.engine_protocol import load_engine
from worker.heartbeat import Heartbeat
from worker.housekeeping import Housekeeper
from worker.leased_writes import LeasedWriter
from worker.stats import Stats
from zoodip_core.service import worker_registry
from zoodip_core.service.database import Database
from zoodip_core.service.job_notifications import ChangePublisher
from zoodip_core.service.object_store import ObjectStore
from zoodip_core.service.settings import ServiceSettings

_log = structlog.get_logger("zoodip.worker")


class WorkerProcess:
    """Engine loop, heartbeat and housekeeping, each on its own thread."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.worker_id = worker_registry.id_prefix(os.getpid()) + secrets.token_hex(3)
        self._settings = settings
        self._changes = None if settings.redis_url is None else ChangePublisher(settings.redis_url)
        on_change = None if self._changes is None else self._changes.send
        database = Database(settings.database, on_change=on_change)
        database.migrate()
        objects = ObjectStore(settings.object_store)
        stats = Stats()
        engine = load_engine(settings)
        writer = LeasedWriter(database, self.worker_id, settings.lease_s)
        self.engine_loop = EngineLoop(engine, writer, objects, settings, stats)
        self._heartbeat = Heartbeat(self.engine_loop, engine, writer, settings, stats)
        self._housekeeper = Housekeeper(database, objects, settings)
        self._database = database
        self._threads = [
            threading.Thread(target=_run_or_exit, args=(name, service.run), name=name, daemon=True)
            for name, service in (
                ("engine", self.engine_loop),
                ("heartbeat", self._heartbeat),
                ("housekeeping", self._housekeeper),
            )
        ]

    def start(self) -> None:
        """Start all threads."""
        _log.info("worker_started", worker=self.worker_id, slots=self._settings.slots)
        for thread in self._threads:
            thread.start()

    def drain(self) -> None:
        """Stop claiming jobs; checkpoint and requeue those that are held."""
        self.engine_loop.drain()

    def join(self) -> None:
        """Wait up to `drain_s` seconds for the drain, then stop the other threads.

        A job that is not requeued by then returns to the queue when its lease expires.
        """
        engine, *others = self._threads
        engine.join(self._settings.drain_s)
        self._heartbeat.stop()
        self._housekeeper.stop()
        for thread in others:
            thread.join(2.0)
        _log.info("worker_stopped", worker=self.worker_id, drained=not engine.is_alive())
        self._database.close()
        if self._changes is not None:
            self._changes.close()


def _run_or_exit(name: str, run: Callable[[], None]) -> None:
    """Run a thread's function; end the process on an unexpected exception.

    Without its engine thread a worker would renew leases of jobs that make no progress. When the process
    ends, its leases expire and its supervisor starts a new one.
    """
    try:
        run()
    except Exception:  # noqa: BLE001 (logged, and the process ends)
        _log.exception("thread_crashed", thread=name)
        os._exit(1)
