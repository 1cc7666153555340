"""One claimed generation: fetches its concepts, records progress between the iterations, stores the images."""

from __future__ import annotations

import time
from dataclasses import replace

from worker.engine_protocol import JobEngine
from worker.job_context import JobContext
from zoodip_core.artifact import Concept, load_concept
from zoodip_core.personalization.speed import Speedometer
from zoodip_core.service import concepts
from zoodip_core.service.concepts import ConceptRecord
from zoodip_core.service.jobs import leases
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.object_store import concept_name, image_name, partial_name
from zoodip_core.service.tracing import record_span

_LONGEST_SILENCE_S = 1.0  # progress is recorded at the next step after this time, however slow the steps are


class GenerationJob:
    """A claimed job and its images. Every method can raise LeaseLostError: the job is no longer this worker's.

    `finished` is true once the job is finished in the database as well.
    """

    def __init__(self, job: Job, engine: JobEngine, context: JobContext) -> None:
        self.job = job
        self.lease = leases.lease_of(job)
        self.runs_alone = leases.runs_alone(job)
        self.finished = False
        self._context = context
        self.meter = context.writer.start_meter(job)
        self._began_at = self._recorded_at = time.time()
        self._concepts = self._fetch_concepts()
        self.drawing = engine.begin_generation(job, [*self._concepts])
        self._step = 0  # last recorded
        self._speedometer = Speedometer()
        self._partial_steps = partial_steps(job.total_steps, job.request.get("partial_images", 0))

    def advance(self) -> None:
        """Record what the last iteration has drawn. After the last image, store all and finish the job.

        Raises:
            ZoodipError: the partial image cannot be decoded, or the object store fails.
            JobStopped: a stop request or a drain ended the wait for the object store.
        """
        if self.drawing.step > self._step:
            self._step = self.drawing.step
            self._speedometer.record_step()
            self._record_progress_if_due()
            self._store_partial_image_if_due()
        if self.drawing.done:
            self._complete()
            self.finished = True

    def save_checkpoint(self) -> None:
        """Do nothing: a generation that stops starts again."""

    def _complete(self) -> None:
        """Store the images and finish the job, or cancel it if that was requested after the last step.

        Raises:
            StorageError: the object store fails.
            JobStopped: a stop request or a drain ended the wait for the object store.
        """
        if self._context.writer.apply_stop_request(self.lease) is not None:
            return
        for k, image in enumerate(self.drawing.images):
            self._context.put(self.lease, image_name(self.job.id, k), image.png)
        self.meter.add(images=len(self.drawing.images))
        result = {
            "seeds": [image.seed for image in self.drawing.images],
            "withheld": list(self.drawing.withheld),
            "concepts": {record.token: record.id for record, _ in self._concepts},
            "usage": self.meter.as_json(),
        }
        if "prompts" in self.job.request:
            result["prompt_indices"] = [image.prompt_index for image in self.drawing.images]
        values = {"step": self.job.total_steps, "result": result}
        self._context.writer.finish(self.lease, Status.SUCCEEDED, values)
        record_span("generation", self.job.trace, self._began_at, time.time(), job_id=self.job.id)
        self._context.stats.counters["generations"] += 1

    def _record_progress_if_due(self) -> None:
        step, now = self.drawing.step, time.time()
        is_due = step % self._context.settings.progress_every == 0 or step == self.job.total_steps
        if not is_due and now - self._recorded_at < _LONGEST_SILENCE_S:
            return
        self._recorded_at = now
        values = {
            "step": step,
            "it_per_s": self._speedometer.it_per_s,
            "eta_s": self._speedometer.eta_s(self.job.total_steps - step),
        }
        event = {**values, "total_steps": self.job.total_steps}
        self._context.writer.record_progress(self.lease, ("progress", event), values)

    def _store_partial_image_if_due(self) -> None:
        """Store the estimate of the first image, for clients that show an image while it is drawn."""
        step = self.drawing.step
        if step not in self._partial_steps:
            return
        png = self.drawing.partial_image()
        if png is None:
            return
        index = self._partial_steps.index(step)
        self._context.put(self.lease, partial_name(self.job.id, index), png)
        event = ("partial_image", {"index": index, "step": step})
        self._context.writer.record_progress(self.lease, event, {"step": step})

    def _fetch_concepts(self) -> list[tuple[ConceptRecord, Concept]]:
        with self._context.writer.database.read() as connection:
            # The prompt has the tokens of the request, even if a concept was renamed since then.
            records = [
                replace(concepts.find(connection, concept_id), token=token)
                for token, concept_id in self.job.request["concepts"].items()
            ]
        return [(record, self._load(record)) for record in records]

    def _load(self, record: ConceptRecord) -> Concept:
        return load_concept(self._context.get(self.lease, concept_name(record.id)), token=record.token)


def partial_steps(total_steps: int, count: int) -> list[int]:
    """Return the steps after which partial images are stored: at most `count`, evenly spaced, not the last one."""
    steps = {total_steps * (k + 1) // (count + 1) for k in range(count)}
    return sorted(steps - {0, total_steps})
