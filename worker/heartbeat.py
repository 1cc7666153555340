"""Background thread: renews leases, polls for cancel and pause requests, requeues jobs and reports this worker.

It requeues jobs of other workers whose lease has expired, and those that this worker has abandoned.
"""

from __future__ import annotations

import threading
import time

import structlog
from sqlalchemy import Connection

from worker.engine_loop import EngineLoop
from worker.engine_protocol import JobEngine
from worker.lease_monitor import LeaseMonitor
from worker.leased_writes import DATABASE_UNAVAILABLE, LeasedWriter
from worker.stats import Stats
from zoodip_core.service import worker_registry
from zoodip_core.service.jobs import leases, reaping
from zoodip_core.service.settings import ServiceSettings

_STOP_REQUEST_POLL_S = 0.25

_log = structlog.get_logger("zoodip.worker")


class EngineStuckError(Exception):
    """The engine thread has not polled, stepped or drawn for `stuck_after_s` seconds."""


class Heartbeat:
    """Renews the leases of this worker as long as its engine thread is active."""

    def __init__(
        self,
        engine_loop: EngineLoop,
        engine: JobEngine,
        writer: LeasedWriter,
        settings: ServiceSettings,
        stats: Stats,
    ) -> None:
        self._engine_loop = engine_loop
        self._engine = engine
        self._writer = writer
        self._settings = settings
        self._stats = stats
        self._monitor = LeaseMonitor(settings.lease_s, longest_gap_s=settings.heartbeat_s)
        self._stop_event = threading.Event()
        self._next_heartbeat_at = 0.0
        self._next_tick_at = 0.0

    def stop(self) -> None:
        """Return from `run` after the current round."""
        self._stop_event.set()

    def run(self) -> None:
        """Run rounds until stopped, then deregister this worker.

        Raises:
            EngineStuckError: the engine thread hangs; the caller must end the process.
        """
        available = True
        while not self._stop_event.wait(_STOP_REQUEST_POLL_S):
            available = self._run_round(available)
        try:
            with self._writer.database.write() as connection:
                worker_registry.deregister(connection, self._writer.worker_id)
        except DATABASE_UNAVAILABLE:
            _log.warning("deregistration_failed")

    def _run_round(self, was_available: bool) -> bool:
        """Run a round; log changes of the database's availability, and return whether it is available."""
        try:
            self._round(time.monotonic())
        except DATABASE_UNAVAILABLE:
            if was_available:
                _log.warning("database_unavailable")
            return False
        if not was_available:
            _log.info("database_available")
        return True

    def _round(self, now: float) -> None:
        held = self._engine_loop.held_leases.leases()
        if now - self._engine_loop.last_activity_at > self._settings.stuck_after_s:
            raise EngineStuckError(
                f"the engine thread has been inactive for {self._settings.stuck_after_s:g} s; "
                f"{len(held)} leases are held"
            )
        if held and now >= self._next_heartbeat_at:
            with self._writer.database.write() as connection:
                response = leases.heartbeat(connection, held, time.time(), self._settings.lease_s)
            self._next_heartbeat_at = now + self._settings.heartbeat_s
            self._engine_loop.held_leases.update(held, response)
        elif held:
            with self._writer.database.read() as connection:
                response = leases.stop_requests(connection, held)
            self._engine_loop.held_leases.update(held, response)
        if now >= self._next_tick_at:
            self._tick()
            self._next_tick_at = now + self._settings.tick_s

    def _tick(self) -> None:
        """Requeue jobs with expired leases, and report this worker with its stats."""
        self._stats.gauges.update(self._engine.gauges())
        idle_s = time.monotonic() - self._engine_loop.last_activity_at
        self._stats.gauges[worker_registry.ENGINE_IDLE] = idle_s
        with self._writer.database.write() as connection:
            now = time.time()
            self._reap(connection, now)
            stats = self._stats.snapshot()
            draining = self._engine_loop.draining
            worker_registry.report(connection, self._writer.worker_id, now, draining=draining, stats=stats)

    def _reap(self, connection: Connection, now: float) -> None:
        """Requeue jobs with expired leases; never one that this worker runs, whose lease the next round renews."""
        held = set(self._engine_loop.held_leases.leases())
        watched = [term for term in reaping.terms(connection) if term.lease not in held]
        expired = self._monitor.expired(watched, time.monotonic())
        for job in reaping.reap(connection, expired, now, self._settings.max_attempts):
            _log.warning("lease_expired", job_id=job.id, status=job.status, attempts=job.attempts)
