"""One generation: its concepts fetched, its images drawn and stored."""

from __future__ import annotations

from collections.abc import Callable

from worker.engine_protocol import JobEngine
from worker.leased_writes import LeasedWriter
from worker.stats import Stats
from zoodip_core.artifact import load_concept
from zoodip_core.service import concepts
from zoodip_core.service.jobs import leases
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.object_store import ObjectStore, concept_name, image_name


class GenerationStopped(Exception):  # noqa: N818 (no fault: it was asked for)
    """The images are not wanted any more, or not from this worker."""


def draw(
    job: Job,
    engine: JobEngine,
    writer: LeasedWriter,
    objects: ObjectStore,
    stats: Stats,
    before_step: Callable[[], None],
) -> None:
    """Draw and store the images of a claimed job, and end it.

    A job that is cancelled meanwhile ends so, and one that `before_step` stops for another reason waits again;
    nothing is kept of either.

    Raises:
        LeaseLostError: another worker has the job.
        ZoodipError: a concept is gone or does not fit, memory is short, the object store refuses.
    """
    found = []
    with writer.database.read() as connection:
        records = [concepts.find(connection, concept_id) for concept_id in job.request["concepts"].values()]
    for record in records:
        found.append((record, load_concept(objects.get(concept_name(record.id)), token=record.token)))
    try:
        with stats.stage("generate"):
            pictures = engine.generate(job, found, before_step)
    except GenerationStopped:
        writer.requeue(leases.lease_of(job))
        return
    if (
        writer.apply_stop_request(leases.lease_of(job)) is not None
    ):  # cancelled while it was drawn: nothing is kept
        return
    for k, picture in enumerate(pictures):
        objects.put(image_name(job.id, k), picture.png)
    result = {
        "seeds": [picture.seed for picture in pictures],
        "concepts": {record.token: record.id for record in records},
    }
    writer.finish(leases.lease_of(job), Status.SUCCEEDED, {"step": job.total_steps, "result": result})
    stats.counters["generations"] += 1
