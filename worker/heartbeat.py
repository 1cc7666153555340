"""Beside the engine's thread: leases extended, wishes read, silent workers' jobs reaped, presence told."""

from __future__ import annotations

import threading
import time

import structlog

from worker.engine_loop import EngineLoop
from worker.engine_protocol import JobEngine
from worker.leased_writes import DATABASE_UNAVAILABLE, LeasedWriter
from worker.stats import Stats
from zoodip_core.service import worker_registry
from zoodip_core.service.jobs import leases
from zoodip_core.service.settings import ServiceSettings

_LISTEN_EVERY_S = 0.25

_log = structlog.get_logger("zoodip.worker")


class EngineStuckError(Exception):
    """The engine's thread has neither stepped nor drawn nor looked for work for too long."""


class Heartbeat:
    """Keeps what the worker holds alive as long as its engine's thread is."""

    def __init__(
        self,
        runner: EngineLoop,
        engine: JobEngine,
        writer: LeasedWriter,
        settings: ServiceSettings,
        stats: Stats,
    ) -> None:
        self._runner = runner
        self._engine = engine
        self._writer = writer
        self._settings = settings
        self._stats = stats
        self._stopped = threading.Event()
        self._heartbeat_at = 0.0
        self._tick_at = 0.0

    def stop(self) -> None:
        """End after the round under way."""
        self._stopped.set()

    def run(self) -> None:
        """Attend until stopped.

        Raises:
            EngineStuckError: nothing can be done for the engine's thread but to end the process.
        """
        away = False
        while not self._stopped.wait(_LISTEN_EVERY_S):
            away = not self._reached(away)
        try:
            with self._writer.database.write() as connection:
                worker_registry.deregister(connection, self._writer.worker_id)
        except DATABASE_UNAVAILABLE:
            _log.warning("left_without_goodbye")

    def _reached(self, away: bool) -> bool:
        """A round; whether the database answered. A change is told, not each round."""
        try:
            self._round(time.monotonic())
        except DATABASE_UNAVAILABLE:
            if not away:
                _log.warning("database_away")
            return False
        if away:
            _log.info("database_back")
        return True

    def _round(self, now: float) -> None:
        held = self._runner.held_leases.leases()
        if now - self._runner.beat_at > self._settings.stuck_after_s:
            raise EngineStuckError(f"no sign for {self._settings.stuck_after_s:g} s; {len(held)} jobs held")
        if held and now >= self._heartbeat_at:
            with self._writer.database.write() as connection:
                answer = leases.heartbeat(connection, held, time.time(), self._settings.lease_s)
            self._heartbeat_at = now + self._settings.heartbeat_s
            self._runner.held_leases.update(held, answer)
        elif held:
            with self._writer.database.read() as connection:
                answer = leases.stop_requests(connection, held)
            self._runner.held_leases.update(held, answer)
        if now >= self._tick_at:
            self._tick()
            self._tick_at = now + self._settings.tick_s

    def _tick(self) -> None:
        self._stats.gauges.update(self._engine.gauges())
        with self._writer.database.write() as connection:
            now = time.time()
            for job in leases.reap(connection, now, self._settings.max_attempts):
                _log.warning("job_reaped", job_id=job.id, status=job.status, attempts=job.attempts)
            stats = self._stats.snapshot()
            draining = self._runner.draining
            worker_registry.report(connection, self._writer.worker_id, now, draining=draining, stats=stats)
