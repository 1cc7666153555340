"""Run one generation: fetch its concepts, draw its images and store them."""

from __future__ import annotations

from collections.abc import Callable

from worker.engine_protocol import JobEngine
from worker.leased_writes import LeasedWriter
from worker.stats import Stats
from zoodip_core.artifact import Concept, load_concept
from zoodip_core.service import concepts
from zoodip_core.service.concepts import ConceptRecord
from zoodip_core.service.jobs import leases
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.object_store import ObjectStore, concept_name, image_name


class GenerationStopped(Exception):  # noqa: N818 (a control signal, not an error)
    """A stop request or a drain ended the generation before all images were drawn."""


def run_generation(
    job: Job,
    engine: JobEngine,
    writer: LeasedWriter,
    objects: ObjectStore,
    stats: Stats,
    before_step: Callable[[], None],
) -> None:
    """Draw and store the images of a claimed job, and finish it.

    A cancelled job ends as cancelled. A job that stops for another reason is requeued. In both cases no
    image is stored.

    Args:
        job: claimed generation.
        engine: draws the images.
        writer: writes under the lease of the job.
        objects: holds the concept files and receives the images.
        stats: counts the generation and its duration.
        before_step: called before each denoising step; raises GenerationStopped to stop.

    Raises:
        LeaseLostError: the lease is lost.
        ZoodipError: a concept is missing or does not match, memory is exhausted, or the object store fails.
    """
    lease = leases.lease_of(job)
    found = _fetch_concepts(job, writer, objects)
    try:
        with stats.stage("generate"):
            pictures = engine.generate(job, found, before_step)
    except GenerationStopped:
        writer.requeue(lease)
        return
    if writer.apply_stop_request(lease) is not None:  # cancelled after the last step
        return
    for k, picture in enumerate(pictures):
        objects.put(image_name(job.id, k), picture.png)
    result = {
        "seeds": [picture.seed for picture in pictures],
        "concepts": {record.token: record.id for record, _ in found},
    }
    writer.finish(lease, Status.SUCCEEDED, {"step": job.total_steps, "result": result})
    stats.counters["generations"] += 1


def _fetch_concepts(
    job: Job, writer: LeasedWriter, objects: ObjectStore
) -> list[tuple[ConceptRecord, Concept]]:
    with writer.database.read() as connection:
        records = [concepts.find(connection, concept_id) for concept_id in job.request["concepts"].values()]
    return [
        (record, load_concept(objects.get(concept_name(record.id)), token=record.token)) for record in records
    ]
