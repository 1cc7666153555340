"""Deletion of jobs and concepts: objects first and without a lock, so that a client can retry after a failure."""

from __future__ import annotations

import time

from api.auth import Caller
from zoodip_core.service import concepts, retention
from zoodip_core.service.jobs import store
from zoodip_core.service.jobs.states import JobKind
from zoodip_core.service.object_store import job_prefix


def delete_job(caller: Caller, job_id: str, kind: JobKind) -> None:
    """Delete an ended job and all its objects.

    Raises:
        NotFoundError: The caller has no such job.
        ConflictError: The job has not ended.
        StorageError: The object store failed. The job still exists.
    """
    service = caller.service
    with service.database.read() as connection:
        job = store.find(connection, job_id, owner=caller.owner, kind=kind)
    store.check_ended(job)
    service.objects.delete_all(job_prefix(job_id))
    with service.database.write() as connection:
        store.remove(connection, job)


def delete_concept(caller: Caller, concept_id: str) -> None:
    """Delete a concept, its embedding, and the photos, previews and checkpoints of the job that learned it.

    Raises:
        NotFoundError: The caller has no such concept.
        StorageError: The object store failed. The concept still exists.
    """
    service = caller.service
    with service.database.read() as connection:
        record = concepts.find(connection, concept_id, caller.owner)
    retention.purge_concept(service.database, service.objects, record, time.time())
    with service.database.write() as connection:
        concepts.remove(connection, record)
