"""Engine thread: claims jobs, runs generations between steps and steps all personalizations in batches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby

import structlog

from worker.engine_protocol import JobEngine
from worker.generation_job import GenerationStopped, run_generation
from worker.held_leases import HeldLeases
from worker.leased_writes import DATABASE_UNAVAILABLE, LeasedWriter
from worker.personalization_job import PersonalizationJob
from worker.stats import Stats
from zoodip_core.errors import ZoodipError
from zoodip_core.service.errors import InternalError, LeaseLostError
from zoodip_core.service.jobs import leases
from zoodip_core.service.jobs.records import Job, Lease
from zoodip_core.service.jobs.states import JobKind, Status, StopRequest
from zoodip_core.service.object_store import ObjectStore
from zoodip_core.service.settings import ServiceSettings
from zoodip_core.service.tracing import span

_log = structlog.get_logger("zoodip.worker")


class EngineLoop:
    """Runs jobs until drained. Only `run` steps and draws with the engine, and only on its own thread.

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
        self._objects = objects
        self._settings = settings
        self._stats = stats
        self._personalizations: list[PersonalizationJob] = []
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
            self._step_all()
            self._stats.gauges["personalizations"] = float(len(self._personalizations))
            if not self._personalizations and next_poll_at:
                self._wake_event.wait(max(0.0, next_poll_at - time.monotonic()))
        self._requeue_all()

    def _claim_jobs(self) -> bool:
        """Run at most one queued generation and start at most one personalization; return whether any was claimed."""
        claimed = False
        job = self._writer.claim_next(JobKind.GENERATION)
        if job is not None:
            claimed = True
            self.held_leases.add(leases.lease_of(job))
            self._run_isolated(job, partial(self._run_generation, job))
        if len(self._personalizations) < self._settings.slots:
            job = self._writer.claim_next(JobKind.PERSONALIZATION)
            if job is not None:
                claimed = True
                self.held_leases.add(leases.lease_of(job))
                self._run_isolated(job, partial(self._start_personalization, job))
        return claimed

    def _run_generation(self, job: Job) -> None:
        with span("generation", job.trace, job_id=job.id):
            before_step = partial(self._before_denoising_step, leases.lease_of(job))
            run_generation(job, self._engine, self._writer, self._objects, self._stats, before_step)
        self.held_leases.remove(leases.lease_of(job))

    def _before_denoising_step(self, lease: Lease) -> None:
        """Record activity; stop the generation on a lost lease, a stop request or a drain."""
        self.last_activity_at = time.monotonic()
        if self.held_leases.is_lost(lease):
            raise LeaseLostError
        if self.draining or self.held_leases.stop_request(lease) is not None:
            raise GenerationStopped

    def _start_personalization(self, job: Job) -> None:
        _log.info("personalization_started", job_id=job.id, step=job.checkpoint_step, attempt=job.attempts)
        personalization = PersonalizationJob(
            job, self._engine, self._writer, self._objects, self._settings, self._stats
        )
        self._personalizations.append(personalization)

    def _apply_stop_requests(self) -> None:
        """Drop personalizations whose lease is lost, and stop those with a cancel or pause request."""
        for personalization in list(self._personalizations):
            if self.held_leases.is_lost(personalization.lease):
                _log.warning("lease_lost", job_id=personalization.job.id)
                self._drop(personalization.lease)
            elif (stop_request := self.held_leases.stop_request(personalization.lease)) is not None:
                action = partial(self._stop_as_requested, personalization, stop_request)
                self._run_isolated(personalization.job, action)

    def _stop_as_requested(self, personalization: PersonalizationJob, stop_request: StopRequest) -> None:
        """Apply the stop request in the database, which may have changed since the last heartbeat."""
        if stop_request == StopRequest.PAUSE:
            personalization.save_checkpoint()
        if self._writer.apply_stop_request(personalization.lease) is None:
            self.held_leases.update([personalization.lease], {personalization.lease.job_id: None})
        else:
            self._drop(personalization.lease)

    def _step_all(self) -> None:
        """Run one step of every personalization, with one forward pass for each base model."""
        by_model = sorted(self._personalizations, key=lambda one: one.job.base_model)
        for base_model, group in groupby(by_model, key=lambda one: one.job.base_model):
            self._step(base_model, [one for one in group if not one.finished])
        for personalization in list(self._personalizations):
            if personalization.finished:
                self._run_isolated(personalization.job, partial(self._complete, personalization))

    def _step(self, base_model: str, group: list[PersonalizationJob]) -> None:
        if not group:
            return
        started = time.perf_counter()
        errors: Sequence[ZoodipError | None]
        try:
            with self._stats.stage("step"):
                errors = self._engine.step(base_model, [one.search for one in group])
        except ZoodipError as failure:  # not even one row fits into memory: no search has moved
            errors = [failure] * len(group)
        except Exception as failure:  # noqa: BLE001 (translated: jobs on other base models must go on)
            _log.exception("step_failed", jobs=[one.job.id for one in group])
            errors = [InternalError(f"the step failed: {type(failure).__name__}")] * len(group)
        rows = sum(one.search.rows_per_step for one in group)
        self._stats.record_step(base_model, len(group), rows, time.perf_counter() - started)
        for personalization, error in zip(group, errors, strict=True):
            if error is not None:
                self._fail(personalization.lease, error)
            else:
                self._run_isolated(personalization.job, personalization.after_step)

    def _complete(self, personalization: PersonalizationJob) -> None:
        job = personalization.job
        with span("personalization.complete", job.trace, job_id=job.id):
            personalization.complete()
        self._drop(personalization.lease)
        self._stats.counters["personalizations"] += 1
        _log.info("personalization_succeeded", job_id=job.id, step=personalization.search.step)

    def _run_isolated(self, job: Job, action: Callable[[], None]) -> None:
        """Run an action for one job; an error ends that job and no other."""
        lease = leases.lease_of(job)
        try:
            action()
        except LeaseLostError:
            _log.warning("lease_lost", job_id=job.id)
            self._drop(lease)
        except DATABASE_UNAVAILABLE as error:  # the lease will expire, and another worker will resume the job
            _log.warning("job_abandoned", job_id=job.id, error=type(error).__name__)
            self._drop(lease)
        except ZoodipError as error:
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
        self.held_leases.remove(lease)
        self._personalizations = [one for one in self._personalizations if one.lease != lease]

    def _requeue_all(self) -> None:
        for personalization in list(self._personalizations):
            self._run_isolated(personalization.job, partial(self._requeue, personalization))

    def _requeue(self, personalization: PersonalizationJob) -> None:
        personalization.save_checkpoint()
        self._writer.requeue(personalization.lease)
        self._drop(personalization.lease)
        _log.info("personalization_requeued", job_id=personalization.job.id, step=personalization.search.step)
