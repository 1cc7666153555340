"""The engine's thread: claims jobs, draws generations between steps, steps all personalizations together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby

import structlog

from worker.engine_protocol import JobEngine
from worker.generation_job import GenerationStopped, draw
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
    """Runs jobs until it is told to drain. Only `run` calls the engine, and only on its own thread."""

    def __init__(
        self,
        engine: JobEngine,
        writer: LeasedWriter,
        objects: ObjectStore,
        settings: ServiceSettings,
        stats: Stats,
    ) -> None:
        self.held_leases = HeldLeases()
        self.beat_at = time.monotonic()
        self._engine = engine
        self._writer = writer
        self._objects = objects
        self._settings = settings
        self._stats = stats
        self._live: list[PersonalizationJob] = []
        self._woken = threading.Event()
        self._draining = threading.Event()

    def wake(self) -> None:
        """Look for work now."""
        self._woken.set()

    def drain(self) -> None:
        """Save a checkpoint of everything, give it back, and end."""
        self._draining.set()
        self._woken.set()

    @property
    def draining(self) -> bool:
        """Whether it takes no more work."""
        return self._draining.is_set()

    def run(self) -> None:
        """Work until drained."""
        look_at = 0.0
        while not self.draining:
            self.beat_at = time.monotonic()
            if self._woken.is_set() or self.beat_at >= look_at:
                self._woken.clear()
                busy = self._claim_jobs()
                look_at = time.monotonic() + (0.0 if busy else self._settings.tick_s)
            self._apply_stop_requests()
            self._step_all()
            self._stats.gauges["personalizations"] = float(len(self._live))
            if not self._live and look_at:
                self._woken.wait(max(0.0, look_at - time.monotonic()))
        self._requeue_all()

    def _claim_jobs(self) -> bool:
        """Draw a generation if one waits, begin one personalization if one waits and fits; whether one did."""
        found = False
        job = self._writer.claim_next(JobKind.GENERATION)
        if job is not None:
            found = True
            self.held_leases.add(leases.lease_of(job))
            self._guarded(job, partial(self._draw, job))
        if len(self._live) < self._settings.slots:
            job = self._writer.claim_next(JobKind.PERSONALIZATION)
            if job is not None:
                found = True
                self.held_leases.add(leases.lease_of(job))
                self._guarded(job, partial(self._begin, job))
        return found

    def _draw(self, job: Job) -> None:
        with span("generation", job.trace, job_id=job.id):
            before_step = partial(self._before_drawing_step, leases.lease_of(job))
            draw(job, self._engine, self._writer, self._objects, self._stats, before_step)
        self.held_leases.remove(leases.lease_of(job))

    def _before_drawing_step(self, lease: Lease) -> None:
        """Show that the engine lives, and obey."""
        self.beat_at = time.monotonic()
        if self.held_leases.is_lost(lease):
            raise LeaseLostError
        if self.draining or self.held_leases.stop_request(lease) is not None:
            raise GenerationStopped

    def _begin(self, job: Job) -> None:
        _log.info("personalization_begins", job_id=job.id, step=job.checkpoint_step, attempt=job.attempts)
        personalizing = PersonalizationJob(
            job, self._engine, self._writer, self._objects, self._settings, self._stats
        )
        self._live.append(personalizing)

    def _apply_stop_requests(self) -> None:
        """Do as clients stop_request, and let go of what is lost."""
        for live in list(self._live):
            if self.held_leases.is_lost(live.lease):
                _log.warning("lease_lost", job_id=live.job.id)
                self._drop(live.lease)
            elif (stop_request := self.held_leases.stop_request(live.lease)) is not None:
                self._guarded(live.job, partial(self._stop_as_requested, live, stop_request))

    def _stop_as_requested(self, live: PersonalizationJob, stop_request: StopRequest) -> None:
        """What the client wishes may have changed since it was heard: the row decides."""
        if stop_request == StopRequest.PAUSE:
            live.save_checkpoint()
        if self._writer.apply_stop_request(live.lease) is None:
            self.held_leases.update([live.lease], {live.lease.job_id: None})
        else:
            self._drop(live.lease)

    def _step_all(self) -> None:
        """One step of every personalization: one forward for each base model."""
        by_model = sorted(self._live, key=lambda live: live.job.base_model)
        for base_model, group in groupby(by_model, key=lambda live: live.job.base_model):
            self._step(base_model, [live for live in group if not live.finished])
        for live in list(self._live):
            if live.finished:
                self._guarded(live.job, partial(self._complete, live))

    def _step(self, base_model: str, group: list[PersonalizationJob]) -> None:
        if not group:
            return
        started = time.perf_counter()
        errors: Sequence[ZoodipError | None]
        try:
            with self._stats.stage("step"):
                errors = self._engine.step(base_model, [live.search for live in group])
        except ZoodipError as failure:  # not even one row fits: none of them has moved
            errors = [failure] * len(group)
        except Exception as failure:  # noqa: BLE001 (translated: one model's fault must not end the others' jobs)
            _log.exception("step_failed", jobs=[live.job.id for live in group])
            errors = [InternalError(f"the step failed: {type(failure).__name__}")] * len(group)
        rows = sum(live.search.rows_per_step for live in group)
        self._stats.stepped(base_model, len(group), rows, time.perf_counter() - started)
        for live, error in zip(group, errors, strict=True):
            if error is not None:
                self._fail(live.lease, error)
            else:
                self._guarded(live.job, live.after_step)

    def _complete(self, live: PersonalizationJob) -> None:
        with span("personalization.complete", live.job.trace, job_id=live.job.id):
            live.complete()
        self._drop(live.lease)
        self._stats.counters["personalizations"] += 1
        _log.info("personalization_ends", job_id=live.job.id, step=live.search.step)

    def _guarded(self, job: Job, act: Callable[[], None]) -> None:
        """Do something for one job; what goes wrong ends that job and no other."""
        lease = leases.lease_of(job)
        try:
            act()
        except LeaseLostError:
            _log.warning("lease_lost", job_id=job.id)
            self._drop(lease)
        except DATABASE_UNAVAILABLE:
            _log.warning("database_lost", job_id=job.id)  # the lease runs out, another worker goes on
            self._drop(lease)
        except ZoodipError as error:
            self._fail(lease, error)
        except Exception as error:  # noqa: BLE001 (translated: one job's fault must not end the others)
            _log.exception("job_failed", job_id=job.id)
            self._fail(
                lease, InternalError(f"{type(error).__name__} while the job ran; see the worker's log")
            )

    def _fail(self, lease: Lease, error: ZoodipError) -> None:
        self._stats.counters["failures"] += 1
        _log.warning("job_fails", job_id=lease.job_id, code=error.code)
        try:
            self._writer.finish(lease, Status.FAILED, {"error": leases.error_of(error)})
        except (LeaseLostError, *DATABASE_UNAVAILABLE):
            _log.warning("failure_not_recorded", job_id=lease.job_id)
        self._drop(lease)

    def _drop(self, lease: Lease) -> None:
        self.held_leases.remove(lease)
        self._live = [live for live in self._live if live.lease != lease]

    def _requeue_all(self) -> None:
        for live in list(self._live):
            self._guarded(live.job, partial(self._requeue, live))

    def _requeue(self, live: PersonalizationJob) -> None:
        live.save_checkpoint()
        self._writer.requeue(live.lease)
        self._drop(live.lease)
        _log.info("personalization_given_back", job_id=live.job.id, step=live.search.step)
