"""Engine thread: claims jobs, and runs iterations of the engine in which all jobs take part."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from worker.engine_protocol import JobEngine
from worker.generation_job import GenerationJob
from worker.held_leases import HeldLeases
from worker.iteration import Iterations, RunningJob
from worker.job_context import JobContext, JobStopped
from worker.leased_writes import DATABASE_UNAVAILABLE, LeasedWriter
from worker.memory_shortage import WAITS_FOR_MEMORY, PersonalizationLimit, can_wait_for_memory
from worker.personalization_job import PersonalizationJob
from worker.stats import Stats
from worker.storage_retries import RetryingObjectStore
from zoodip_core.errors import ZoodipError
from zoodip_core.service.errors import InternalError, LeaseLostError
from zoodip_core.service.jobs import leases
from zoodip_core.service.jobs.records import Job, Lease
from zoodip_core.service.jobs.states import JobKind, Status, StopRequest
from zoodip_core.service.object_store import ObjectStore
from zoodip_core.service.settings import ServiceSettings

_CLAIMS = 4
"""Generations that start before one iteration: each takes time that others wait, and other workers want some."""

_log = structlog.get_logger("zoodip.worker")


class EngineLoop:
    """Runs jobs until drained. Only `run` uses the engine, and only on its own thread.

    Each round claims jobs, applies stop requests and runs one iteration. Jobs join and leave between iterations.

    `last_activity_at` is the monotonic time at which the thread last polled, stepped or drew.
    """

    def __init__(
        self,
        engine: JobEngine,
        writer: LeasedWriter,
        objects: ObjectStore,
        settings: ServiceSettings,
        stats: Stats,
    ) -> None:
        self.held_leases = HeldLeases()
        self.last_activity_at = time.monotonic()
        self._engine = engine
        self._writer = writer
        self._settings = settings
        self._stats = stats
        retrying = RetryingObjectStore(objects, settings.storage_retry_s)
        self._context = JobContext(writer, retrying, settings, stats, self._stay_active)
        self._personalizations: list[PersonalizationJob] = []  # in the order of their start
        self._limit = PersonalizationLimit(settings.slots)
        self._generations: list[GenerationJob] = []
        self._iterations = Iterations(engine, stats, settings.personalization_share)
        self._wake_event = threading.Event()
        self._drain_event = threading.Event()

    def wake(self) -> None:
        """Poll for jobs immediately."""
        self._wake_event.set()

    def drain(self) -> None:
        """Checkpoint and requeue all jobs, then return from `run`."""
        self._drain_event.set()
        self._wake_event.set()

    @property
    def draining(self) -> bool:
        """Whether the worker has stopped claiming jobs."""
        return self._drain_event.is_set()

    def run(self) -> None:
        """Run jobs until drained."""
        next_poll_at = 0.0
        while not self.draining:
            self.last_activity_at = time.monotonic()
            if self._wake_event.is_set() or self.last_activity_at >= next_poll_at:
                self._wake_event.clear()
                claimed = self._claim_jobs()
                next_poll_at = time.monotonic() + (0.0 if claimed else self._settings.tick_s)
            self._apply_stop_requests()
            self._iterate()
            self._stats.gauges["personalizations"] = float(len(self._personalizations))
            self._stats.gauges["active_generations"] = float(len(self._generations))
            if not self._running and next_poll_at:
                self._wake_event.wait(max(0.0, next_poll_at - time.monotonic()))
        self._requeue_all()

    @property
    def _running(self) -> list[RunningJob]:
        return [*self._personalizations, *self._generations]

    def _claim_jobs(self) -> bool:
        """Claim and start some generations and at most one personalization; return whether any was claimed."""
        self._engine.trim()
        claimed = False
        for _ in range(min(_CLAIMS, self._settings.generation_slots - len(self._generations))):
            if not self._claim(JobKind.GENERATION, self._start_generation):
                break
            claimed = True
        if self._limit.allows_another(len(self._personalizations)):
            claimed |= self._claim(JobKind.PERSONALIZATION, self._start_personalization)
        return claimed

    def _claim(self, kind: JobKind, start: Callable[[Job], None]) -> bool:
        """Claim and start the oldest job of a kind. A job that must run alone displaces all others."""
        if any(one.runs_alone for one in self._running):
            return False
        job = self._writer.claim_next(kind)
        if job is None:
            return False
        self.held_leases.add(leases.lease_of(job))
        if leases.runs_alone(job):
            _log.warning("job_runs_alone", job_id=job.id, attempt=job.attempts)
            self._requeue_all()
        self._run_isolated(job, partial(start, job))
        return True

    def _stay_active(self, lease: Lease) -> None:
        """Record activity, and end the wait of a job on a lost lease, a stop request or a drain."""
        self.last_activity_at = time.monotonic()
        if self.held_leases.is_lost(lease):
            raise LeaseLostError
        if self.draining or self.held_leases.stop_request(lease) is not None:
            raise JobStopped

    def _start_generation(self, job: Job) -> None:
        self._generations.append(GenerationJob(job, self._engine, self._context))

    def _start_personalization(self, job: Job) -> None:
        _log.info("personalization_started", job_id=job.id, step=job.checkpoint_step, attempt=job.attempts)
        personalization = PersonalizationJob(job, self._engine, self._context)
        self._personalizations.append(personalization)
        self._advance(personalization)

    def _apply_stop_requests(self) -> None:
        """Drop jobs whose lease is lost, and stop those with a cancel or pause request."""
        for running in self._running:
            if self.held_leases.is_lost(running.lease):
                _log.warning("lease_lost", job_id=running.job.id)
                self._drop(running.lease)
            elif (stop_request := self.held_leases.stop_request(running.lease)) is not None:
                self._run_isolated(running.job, partial(self._stop_as_requested, running, stop_request))

    def _stop_as_requested(self, running: RunningJob, stop_request: StopRequest) -> None:
        """Apply the stop request in the database, which may have changed since the last heartbeat."""
        if stop_request == StopRequest.PAUSE:
            running.save_checkpoint()
        if self._writer.apply_stop_request(running.lease) is None:
            self.held_leases.update([running.lease], {running.lease.job_id: None})
        else:
            self._drop(running.lease)

    def _iterate(self) -> None:
        """Run one iteration, and then what is due for each job that took part."""
        lacks_memory = False
        for running, error in self._iterations.run(self._personalizations, self._generations):
            self.last_activity_at = time.monotonic()
            if error is None:
                self._run_isolated(running.job, partial(self._advance, running))
            elif self._can_wait(running.job, error):
                lacks_memory = True  # the search has not moved, so the next round repeats its work
            else:
                self._fail(running.lease, error)
        if lacks_memory and self._personalizations:
            youngest = self._personalizations[-1]
            self._run_isolated(youngest.job, partial(self._wait_for_memory, youngest))

    def _advance(self, running: RunningJob) -> None:
        running.advance()
        if not running.finished:
            return
        self._drop(running.lease)
        if isinstance(running, PersonalizationJob):
            self._stats.counters["personalizations"] += 1
            _log.info("personalization_succeeded", job_id=running.job.id, step=running.search.step)

    def _can_wait(self, job: Job, error: ZoodipError) -> bool:
        return can_wait_for_memory(job, error, [one.job for one in self._personalizations])

    def _wait_for_memory(self, personalization: PersonalizationJob) -> None:
        personalization.save_checkpoint()
        self._requeue_for_memory(personalization.lease)

    def _requeue_for_memory(self, lease: Lease) -> None:
        """Requeue a personalization at its last checkpoint, and start none until another one has left."""
        _log.warning("job_waits_for_memory", job_id=lease.job_id)
        self._give_back(lease, WAITS_FOR_MEMORY)
        self._limit.lower(len(self._personalizations))

    def _run_isolated(self, job: Job, action: Callable[[], None]) -> None:
        """Run an action for one job; an error ends that job and no other."""
        lease = leases.lease_of(job)
        try:
            action()
        except LeaseLostError:
            _log.warning("lease_lost", job_id=job.id)
            self._drop(lease)
        except JobStopped:
            self._run_isolated(job, partial(self._give_back, lease))
        except DATABASE_UNAVAILABLE as error:  # the lease will expire, and another worker will resume the job
            _log.warning("job_abandoned", job_id=job.id, error=type(error).__name__)
            self._drop(lease)
        except ZoodipError as error:
            if self._can_wait(job, error):
                self._run_isolated(job, partial(self._requeue_for_memory, lease))
            else:
                self._fail(lease, error)
        except Exception as error:  # noqa: BLE001 (translated: other jobs must go on)
            _log.exception("job_crashed", job_id=job.id)
            self._fail(
                lease, InternalError(f"{type(error).__name__} while the job ran; see the worker's log")
            )

    def _fail(self, lease: Lease, error: ZoodipError) -> None:
        self._stats.counters["failures"] += 1
        _log.warning("job_failed", job_id=lease.job_id, code=error.code)
        try:
            self._writer.finish(lease, Status.FAILED, {"error": leases.error_of(error)})
        except (LeaseLostError, *DATABASE_UNAVAILABLE):
            _log.warning("failure_not_recorded", job_id=lease.job_id)
        self._drop(lease)

    def _drop(self, lease: Lease) -> None:
        """Forget a job, and poll for another one in the next round."""
        self.held_leases.remove(lease)
        for dropped in [one for one in self._personalizations if one.lease == lease]:
            dropped.close()
            self._limit.reset()
        self._personalizations = [one for one in self._personalizations if one.lease != lease]
        self._generations = [one for one in self._generations if one.lease != lease]
        self._wake_event.set()

    def _requeue_all(self) -> None:
        for running in self._running:
            self._run_isolated(running.job, partial(self._requeue, running))

    def _requeue(self, running: RunningJob) -> None:
        running.save_checkpoint()
        self._give_back(running.lease)

    def _give_back(self, lease: Lease, reason: tuple[str, dict[str, Any]] | None = None) -> None:
        """Requeue a job at its last checkpoint, or apply its pending stop request; `reason` is an event."""
        job = self._writer.requeue(lease, reason)
        self._drop(lease)
        _log.info("job_requeued", job_id=job.id, status=job.status, step=job.step)
