"""One claimed personalization: starts its search, records progress, stores checkpoints, previews and the concept."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import suppress
from functools import partial

import structlog

from worker.engine_protocol import JobEngine, JobSearch
from worker.job_context import JobContext
from worker.learned_concept import store_concept
from worker.leased_writes import LeasedWriter
from zoodip_core.config import PersonalizationSettings
from zoodip_core.errors import (
    ContentFilteredError,
    InvalidCheckpointError,
    LossNotFiniteError,
)
from zoodip_core.personalization.cadence import (
    checkpoint_due,
    last_measured_step,
    measurement_due,
    preview_due,
)
from zoodip_core.personalization.recovery import Recovery
from zoodip_core.personalization.speed import Speedometer
from zoodip_core.service.errors import LeaseLostError, NotFoundError
from zoodip_core.service.jobs import leases
from zoodip_core.service.jobs.records import Job, Lease
from zoodip_core.service.object_store import checkpoint_name, preview_name, reference_name
from zoodip_core.service.tracing import record_span, span

_log = structlog.get_logger("zoodip.worker")
_END = object()


class PersonalizationJob:
    """A claimed job and its search. Every method can raise LeaseLostError: the job is no longer this worker's.

    `finished` is true once the concept is stored and the job is finished in the database.
    """

    def __init__(self, job: Job, engine: JobEngine, context: JobContext) -> None:
        self.job = job
        self.lease = leases.lease_of(job)
        self.runs_alone = leases.runs_alone(job)
        self.finished = False
        self._context = context
        self.meter = context.writer.start_meter(job)
        self._writer = context.writer
        self._stats = context.stats
        self._search_settings = PersonalizationSettings.parse(job.request["settings"])
        self._checkpoints = list(job.checkpoints)
        with self._stats.stage("begin"), span("personalization.begin", job.trace, job_id=job.id):
            self.search = self._start_search(engine)
        # No method of this object: the cycle of references would keep the base model in use after the job.
        self.search.on_recovery(partial(_record_recovery, self._writer, self.lease))
        self._progress_at = time.time()
        self._speedometer = Speedometer()
        self._measured_at = last_measured_step(self._search_settings, len(self.search.fixed_losses))
        self._work = self._run()

    def advance(self) -> None:
        """Run the work that is due until the search needs the engine again, or the job is complete.

        Call it once at the start, and after each iteration in which the search has done a unit of work.

        Raises:
            ZoodipError: the job cannot go on.
            JobStopped: a stop request or a drain ended the wait for the object store.
        """
        self.finished = next(self._work, _END) is _END

    def close(self) -> None:
        """Drop the pending work. Its reference to this object would keep the base model in use after the job."""
        self._work.close()

    def _run(self) -> Generator[None]:
        """Run the whole job; yield whenever the next unit of work of the search comes first."""
        if self._lacks_measurement:
            yield from self._measure()
        if not self.job.checkpoint_step or self.search.step < self.job.checkpoint_step:
            self._record_progress()
        while not self.search.done:
            yield
            yield from self._after_step()
        yield from self._complete()

    @property
    def _lacks_measurement(self) -> bool:
        """Whether the loss of the current step is missing: the search is new, or was stopped during a measurement."""
        is_due = measurement_due(self._search_settings, self.search.step) and not self.search.done
        return not self.search.fixed_losses or (is_due and self._measured_at < self.search.step)

    def _after_step(self) -> Generator[None]:
        """Run the periodic work that is due after a step: measurement, progress, checkpoint and preview."""
        step = self.search.step
        self._speedometer.record_step()
        if measurement_due(self._search_settings, step) and not self.search.done:
            yield from self._measure()
        if self.search.done:  # also after a measurement, with stop="auto"
            return
        if step % self._context.settings.progress_every == 0:
            self._record_progress()
        if checkpoint_due(self._search_settings, step):
            self.save_checkpoint()
        if preview_due(self._search_settings, step, self._context.settings.preview_every):
            yield from self._draw_preview()

    def save_checkpoint(self) -> None:
        """Store the state of the search, record the checkpoint, then delete the outdated ones.

        A search without its first validation loss has nothing to store; it starts again.

        Raises:
            StorageError: the object store fails; the previous checkpoint stays.
            JobStopped: a stop request or a drain ended the wait for the object store.
        """
        if not self.search.fixed_losses:
            return
        step = self.search.step
        with self._stats.stage("checkpoint"), span("personalization.checkpoint", self.job.trace, step=step):
            self._context.put(self.lease, checkpoint_name(self.job.id, step), self.search.state())
        kept = [*(s for s in self._checkpoints if s != step), step]
        limit = self._context.settings.keep_checkpoints
        outdated, kept = kept[:-limit], kept[-limit:]
        outdated_names = [checkpoint_name(self.job.id, old) for old in outdated]
        self.meter.record_deletion(outdated_names)
        self._writer.record_checkpoint(self.lease, step, kept)
        self.runs_alone = self.runs_alone and step <= max(self._checkpoints, default=0)
        self._checkpoints = kept
        self._context.objects.delete(outdated_names)

    def _complete(self) -> Generator[None]:
        """Measure and draw once more, then store the concept and finish the job."""
        if self._measured_at < self.search.step:
            yield from self._measure()
        self._record_progress()
        yield from self._draw_preview()
        unneeded = self._reference_names() if self._context.settings.delete_references_on_success else []
        with span("personalization.complete", self.job.trace, job_id=self.job.id):
            store_concept(self.job, self.search, self._context, unneeded)
        self._context.objects.delete(unneeded)

    def _start_search(self, engine: JobEngine) -> JobSearch:
        """Start at the newest checkpoint that is usable; at step 0 if none is."""
        images = [self._context.get(self.lease, name) for name in self._reference_names()]
        while self._checkpoints:
            try:
                state = self._context.get(self.lease, checkpoint_name(self.job.id, self._checkpoints[-1]))
                search = engine.begin(self.job, images, state)
            except (NotFoundError, InvalidCheckpointError) as error:
                step = self._checkpoints.pop()
                _log.error("checkpoint_unusable", job_id=self.job.id, step=step, error=error.message)
            else:
                break
        else:
            search = engine.begin(self.job, images, None)
        if search.step != self.job.checkpoint_step:
            self._record_lost_checkpoints(search.step)
        return search

    def _record_lost_checkpoints(self, step: int) -> None:
        values = {"step": step, "checkpoint_step": step, "checkpoints": self._checkpoints}
        self._writer.write_with_retry(
            self.lease, lambda connection: leases.record(connection, self.lease, time.time(), values=values)
        )
        _log.warning("steps_lost", job_id=self.job.id, step=step, lost_steps=self.job.checkpoint_step - step)

    def _measure(self) -> Generator[None]:
        self.search.begin_measurement()
        while self.search.activity == "measure":
            yield
        self._measured_at = self.search.step

    def _record_progress(self) -> None:
        now = time.time()
        record_span(
            "personalization.steps",
            self.job.trace,
            self._progress_at,
            now,
            job_id=self.job.id,
            step=self.search.step,
        )
        self._progress_at = now
        remaining_steps = self.job.total_steps - self.search.step
        values = {
            "step": self.search.step,
            "it_per_s": self._speedometer.it_per_s,
            "eta_s": self._speedometer.eta_s(remaining_steps),
            "fixed_loss": self.search.fixed_losses[-1],
        }
        event = {**values, "total_steps": self.job.total_steps, "measured_at": self._measured_at}
        self._writer.record_progress(self.lease, ("progress", event), values)

    def _draw_preview(self) -> Generator[None]:
        """Store a preview. One that the safety checker withholds is only recorded, and the search goes on."""
        step = self.search.step
        self.search.begin_preview()
        while self.search.activity == "preview":
            yield
        try:
            png = self.search.take_preview()
        except ContentFilteredError as error:
            withheld = {"step": step, "code": error.code}
            self._writer.record_progress(self.lease, ("preview_withheld", withheld), {"step": step})
            return
        self._context.put(self.lease, preview_name(self.job.id, step), png)
        self._writer.record_progress(self.lease, ("preview", {"step": step}), {"step": step})

    def _reference_names(self) -> list[str]:
        return [reference_name(self.job.id, k) for k in range(int(self.job.request["images"]))]


def _record_recovery(writer: LeasedWriter, lease: Lease, recovery: Recovery) -> None:
    _log.warning("search_recovered", job_id=lease.job_id, kind=recovery.kind, step=recovery.step)
    event = {"code": LossNotFiniteError.code, "message": recovery.message}
    with suppress(LeaseLostError):  # the step goes on; the next write ends the job
        writer.record_progress(lease, ("warning", event), {})
