"""A worker process: its threads, started and drained together."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Callable

import structlog

from worker.engine_loop import EngineLoop
from worker.engine_protocol import load_engine
from worker.heartbeat import Heartbeat
from worker.housekeeping import Housekeeper
from worker.leased_writes import LeasedWriter
from worker.stats import Stats
from zoodip_core.service.database import Database
from zoodip_core.service.job_notifications import ChangePublisher
from zoodip_core.service.object_store import ObjectStore
from zoodip_core.service.settings import ServiceSettings

_log = structlog.get_logger("zoodip.worker")


class WorkerProcess:
    """Engine, attendant and messenger on a thread each."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.worker_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._settings = settings
        self._changes = None if settings.redis_url is None else ChangePublisher(settings.redis_url)
        on_change = None if self._changes is None else self._changes.send
        database = Database(settings.database, on_change=on_change)
        database.migrate()
        objects = ObjectStore(settings.object_store)
        stats = Stats()
        engine = load_engine(settings)
        writer = LeasedWriter(database, self.worker_id, settings.lease_s)
        self.runner = EngineLoop(engine, writer, objects, settings, stats)
        self._attendant = Heartbeat(self.runner, engine, writer, settings, stats)
        self._messenger = Housekeeper(database, objects, settings)
        self._database = database
        self._threads = [
            threading.Thread(target=_run_or_exit, args=(name, part.run), name=name, daemon=True)
            for name, part in (
                ("engine", self.runner),
                ("attendant", self._attendant),
                ("messenger", self._messenger),
            )
        ]

    def start(self) -> None:
        """Start working."""
        _log.info("worker_starts", worker=self.worker_id, slots=self._settings.slots)
        for thread in self._threads:
            thread.start()

    def drain(self) -> None:
        """Take no more work; checkpoint and give back what is held."""
        self.runner.drain()

    def join(self) -> None:
        """Wait until all is given back, within the grace time; leases stand for what is not."""
        engine, *others = self._threads
        engine.join(self._settings.drain_s)
        self._attendant.stop()
        self._messenger.stop()
        for thread in others:
            thread.join(2.0)
        _log.info("worker_ends", worker=self.worker_id, drained=not engine.is_alive())
        self._database.close()
        if self._changes is not None:
            self._changes.close()


def _run_or_exit(name: str, run: Callable[[], None]) -> None:
    """Run a part; a fault that it does not know ends the process.

    A worker without its engine would renew leases that nobody works on. Without the process they run out, and
    whoever started it starts another.
    """
    try:
        run()
    except Exception:  # noqa: BLE001 (logged, and the process ends)
        _log.exception("part_died", part=name)
        os._exit(1)
