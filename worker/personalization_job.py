"""One claimed personalization: starts its search, records progress, stores checkpoints, previews and the concept."""

from __future__ import annotations

import contextlib
import time

from sqlalchemy import Connection

from worker.engine_protocol import JobEngine, JobSearch
from worker.leased_writes import LeasedWriter
from worker.stats import Stats
from zoodip_core.artifact import export_concept
from zoodip_core.config import PersonalizationSettings
from zoodip_core.errors import StorageError, ZoodipError
from zoodip_core.personalization.cadence import checkpoint_due, last_measured_step, measurement_due
from zoodip_core.personalization.speed import Speedometer
from zoodip_core.service import concepts
from zoodip_core.service.concepts import ConceptRecord
from zoodip_core.service.ids import new_id
from zoodip_core.service.jobs import leases
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.object_store import (
    ObjectStore,
    checkpoint_name,
    concept_name,
    preview_name,
    reference_name,
)
from zoodip_core.service.settings import ServiceSettings
from zoodip_core.service.tracing import record_span, span


class PersonalizationJob:
    """A claimed job and its search. Every method can raise LeaseLostError: the job is no longer this worker's."""

    def __init__(
        self,
        job: Job,
        engine: JobEngine,
        writer: LeasedWriter,
        objects: ObjectStore,
        settings: ServiceSettings,
        stats: Stats,
    ) -> None:
        self.job = job
        self.lease = leases.lease_of(job)
        self._writer = writer
        self._objects = objects
        self._settings = settings
        self._stats = stats
        self._search_settings = PersonalizationSettings.parse(job.request["settings"])
        self._checkpoints = list(job.checkpoints)
        with stats.stage("begin"), span("personalization.begin", job.trace, job_id=job.id):
            self.search = self._start_search(engine)
        self._progress_at = time.time()
        self._speedometer = Speedometer()
        self._measured_at = last_measured_step(self._search_settings, len(self.search.fixed_losses))
        if not job.checkpoint_step:
            self._record_progress()

    @property
    def finished(self) -> bool:
        """Whether the search has ended."""
        return self.search.done

    def after_step(self) -> None:
        """Run the periodic work that is due after a step: measurement, progress, checkpoint and preview."""
        step = self.search.step
        self._speedometer.record_step()
        if measurement_due(self._search_settings, step) and not self.finished:
            self._measure()
        if self.finished:  # also after a measurement, with stop="auto"
            return
        if step % self._settings.progress_every == 0:
            self._record_progress()
        if checkpoint_due(self._search_settings, step):
            self.save_checkpoint()
        if step % self._settings.preview_every == 0 or step == self._search_settings.checkpoint_every:
            self._draw_preview()

    def save_checkpoint(self) -> None:
        """Store the state of the search, record the checkpoint, then delete the outdated ones.

        Raises:
            StorageError: the object store fails; the previous checkpoint stays.
        """
        step = self.search.step
        with self._stats.stage("checkpoint"), span("personalization.checkpoint", self.job.trace, step=step):
            self._objects.put(checkpoint_name(self.job.id, step), self.search.state())
        kept = [*(s for s in self._checkpoints if s != step), step]
        outdated, kept = kept[: -self._settings.keep_checkpoints], kept[-self._settings.keep_checkpoints :]
        self._writer.record_checkpoint(self.lease, step, kept)
        self._checkpoints = kept
        self._objects.delete(checkpoint_name(self.job.id, old) for old in outdated)

    def complete(self) -> None:
        """Store the concept file, then insert its row and finish the job in one transaction.

        Raises:
            StorageError: the object store fails; the last checkpoint stays.
            TokenTakenError: another concept has taken the token in the meantime.
        """
        if self._measured_at != self.search.step:
            self._measure()
        self._record_progress()
        self._draw_preview()
        learned = self.search.concept()
        record = ConceptRecord(
            id=new_id("con"),
            owner=self.job.owner,
            token=self.job.token or "",
            kind=learned.kind,
            base_model=self.job.base_model,
            fingerprint=learned.fingerprint or "",
            precision=learned.provenance.precision if learned.provenance else "unknown",
            vectors=learned.vectors,
            created_at=time.time(),
            from_personalization=self.job.id,
        )
        with self._stats.stage("save"):
            self._objects.put(concept_name(record.id), export_concept(learned, "diffusers"))
        try:
            replaced = self._commit(record)
        except ZoodipError:  # no row was written; after a lost commit reply the orphan cleanup decides
            self._try_delete([concept_name(record.id)])
            raise
        if replaced is not None:  # the next purge deletes the data of its job, which may be large
            self._try_delete([concept_name(replaced.id)])
        if self._settings.delete_references_on_success:
            self._try_delete(self._reference_names())

    def _try_delete(self, names: list[str]) -> None:
        """Delete objects if the object store permits; the daily orphan cleanup retries.

        A failure must not change the result of the job.
        """
        with contextlib.suppress(StorageError):
            self._objects.delete(names)

    def _commit(self, record: ConceptRecord) -> ConceptRecord | None:
        """Insert the row of the concept and finish the job in one transaction; return the concept it replaces."""
        result = {
            "concept_id": record.id,
            "steps": self.search.step,
            "stopped_early": self.search.step < self.job.total_steps,
            "fixed_loss_start": self.search.fixed_losses[0],
            "fixed_loss_end": self.search.fixed_losses[-1],
        }

        def write(connection: Connection) -> ConceptRecord | None:
            if concepts.exists(connection, record.id):  # committed before, and only the reply was lost
                return None
            values = {"step": self.search.step, "result": result}
            leases.finish(connection, self.lease, Status.SUCCEEDED, time.time(), values)
            return concepts.add(connection, record, replace=bool(self.job.request["replace"]))

        return self._writer.write_with_retry(write)

    def _start_search(self, engine: JobEngine) -> JobSearch:
        images = [self._objects.get(name) for name in self._reference_names()]
        step = self.job.checkpoint_step
        state = self._objects.get(checkpoint_name(self.job.id, step)) if step else None
        return engine.begin(self.job, images, state)

    def _measure(self) -> None:
        with self._stats.stage("measure"):
            self.search.record_validation_loss()
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

    def _draw_preview(self) -> None:
        step = self.search.step
        with self._stats.stage("preview"):
            self._objects.put(preview_name(self.job.id, step), self.search.preview())
        self._writer.record_progress(self.lease, ("preview", {"step": step}), {"step": step})

    def _reference_names(self) -> list[str]:
        return [reference_name(self.job.id, k) for k in range(int(self.job.request["images"]))]
