"""Stores the concept of a complete search, and finishes its job."""

from __future__ import annotations

import time

from sqlalchemy import Connection

from worker.engine_protocol import JobSearch
from worker.job_context import JobContext
from zoodip_core.artifact import Concept, export_concept
from zoodip_core.errors import ZoodipError
from zoodip_core.service import concepts, stored_objects
from zoodip_core.service.concepts import ConceptRecord
from zoodip_core.service.ids import new_id
from zoodip_core.service.jobs import leases
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.object_store import concept_name


def store_concept(job: Job, search: JobSearch, context: JobContext, unneeded: list[str]) -> None:
    """Store the concept file, then insert its row and finish the job in one transaction.

    `unneeded` are objects that the caller deletes then.

    Raises:
        StorageError: the object store fails; the last checkpoint stays.
        TokenTakenError: another concept has taken the token in the meantime.
        LeaseLostError: the job is no longer this worker's.
    """
    learned, lease = search.concept(), leases.lease_of(job)
    record = _record_of(job, learned)
    with context.stats.stage("save"):
        content = export_concept(learned, "diffusers")
        context.put(lease, concept_name(record.id), content)
    try:
        replaced = _commit(job, search, context, record, unneeded)
    except ZoodipError:  # no row was written; after a lost commit reply the orphan cleanup decides
        context.writer.meter(lease).record_deletion([concept_name(record.id)])
        context.objects.delete([concept_name(record.id)])
        raise
    if replaced is not None:  # the next purge deletes the data of its job, which may be large
        context.objects.delete([concept_name(replaced.id)])


def _record_of(job: Job, learned: Concept) -> ConceptRecord:
    return ConceptRecord(
        id=new_id("con"),
        owner=job.owner,
        token=job.token or "",
        kind=learned.kind,
        base_model=job.base_model,
        fingerprint=learned.fingerprint or "",
        precision=learned.provenance.precision if learned.provenance else "unknown",
        vectors=learned.vectors,
        created_at=time.time(),
        from_personalization=job.id,
    )


def _commit(
    job: Job, search: JobSearch, context: JobContext, record: ConceptRecord, unneeded: list[str]
) -> ConceptRecord | None:
    """Insert the row of the concept and finish the job in one transaction; return the concept it replaces."""
    lease = leases.lease_of(job)
    result = {
        "concept_id": record.id,
        "steps": search.step,
        "stopped_early": search.step < job.total_steps,
        "fixed_loss_start": search.fixed_losses[0],
        "fixed_loss_end": search.fixed_losses[-1],
        "usage": context.writer.meter(lease).as_json(),
    }

    def write(connection: Connection) -> ConceptRecord | None:
        if concepts.exists(connection, record.id):  # committed before, and only the reply was lost
            return None
        values = {"step": search.step, "result": result}
        leases.finish(connection, lease, Status.SUCCEEDED, time.time(), values)
        stored_objects.remove(connection, unneeded)
        return concepts.add(connection, record, replace=bool(job.request["replace"]))

    return context.writer.write_with_retry(lease, write)
