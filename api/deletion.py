"""Things deleted: their bytes first, without a lock, so that what fails half-way can be asked for again."""

from __future__ import annotations

import time

from api.auth import Caller
from zoodip_core.service import concepts, retention
from zoodip_core.service.jobs import store
from zoodip_core.service.jobs.states import JobKind
from zoodip_core.service.object_store import job_prefix


def delete_job(caller: Caller, job_id: str, kind: JobKind) -> None:
    """Drop an ended job with all its objects.

    Raises:
        NotFoundError: the caller has no such job.
        ConflictError: it has not ended.
        StorageError: the object store refuses; the job is still there.
    """
    service = caller.service
    with service.database.read() as connection:
        job = store.find(connection, job_id, owner=caller.owner, kind=kind)
    store.check_ended(job)
    service.objects.delete_all(job_prefix(job_id))
    with service.database.write() as connection:
        store.remove(connection, job)


def delete_concept(caller: Caller, concept_id: str) -> None:
    """Drop a concept with its embedding, and the photos, previews and checkpoints that it came from.

    Raises:
        NotFoundError: the caller has no such concept.
        StorageError: the object store refuses; the concept is still there.
    """
    service = caller.service
    with service.database.read() as connection:
        record = concepts.find(connection, concept_id, caller.owner)
    retention.purge_concept(service.database, service.objects, record, time.time())
    with service.database.write() as connection:
        concepts.remove(connection, record)
