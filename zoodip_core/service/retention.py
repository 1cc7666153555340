"""Retention: delete data of ended jobs by age or with their concept, and delete expired idempotency records.

The data of a job are its reference images, images, previews, checkpoints and events. Its row stays.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Table, and_, exists, or_, select, update

from zoodip_core.service import idempotency, stored_objects, usage
from zoodip_core.service.concepts import ConceptRecord
from zoodip_core.service.database import Database
from zoodip_core.service.ids import creation_time, is_id
from zoodip_core.service.jobs import events
from zoodip_core.service.jobs.states import ENDED, JobKind, Status
from zoodip_core.service.object_store import (
    FILE_LIFETIME_S,
    ObjectStore,
    concept_name,
    job_prefix,
    resource_id,
)
from zoodip_core.service.settings import ServiceSettings
from zoodip_core.service.tables import concepts, jobs

_DAY_S, _HOUR_S = 86_400.0, 3_600.0
_BATCH = 50


def purge(database: Database, objects: ObjectStore, settings: ServiceSettings, now: float) -> list[str]:
    """Delete expired idempotency records and the data of expired jobs, and update the records of usage.

    The data of an ended job expire after `retention_days`. The data of a succeeded personalization also expire when
    its concept no longer exists.

    Returns:
        The ids of the purged jobs: at most 50 in one call.
    """
    with database.write() as connection:
        idempotency.purge_expired(connection, now - settings.idempotency_hours * _HOUR_S)
    with database.write() as connection:
        usage.merge_expired(connection, usage.day_of(now) - settings.usage_days)
        usage.sample_stored_bytes(connection, now)
    concept_deleted = and_(
        jobs.c.kind == JobKind.PERSONALIZATION,
        jobs.c.status == Status.SUCCEEDED,
        ~exists().where(concepts.c.from_personalization == jobs.c.id),
    )
    is_expired = concept_deleted
    if settings.retention_days is not None:
        old = jobs.c.finished_at < now - settings.retention_days * _DAY_S
        is_expired = or_(concept_deleted, and_(jobs.c.status.in_(ENDED), old))
    with database.read() as connection:
        query = select(jobs.c.id).where(jobs.c.purged_at.is_(None), is_expired).limit(_BATCH)
        ids = list(connection.execute(query).scalars())
    for job_id in ids:
        purge_job(database, objects, job_id, now)
    return ids


def purge_job(database: Database, objects: ObjectStore, job_id: str, now: float) -> None:
    """Delete the objects and events of an ended job; keep its row.

    Raises:
        StorageError: The object store failed. The job is not marked as purged, so a later call retries.
    """
    objects.delete_all(job_prefix(job_id))  # objects first: after a failure the row is retried
    with database.write() as connection:
        events.delete_for_job(connection, job_id)
        stored_objects.remove_of(connection, job_id)
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(purged_at=now, checkpoints=[]))


def purge_concept(database: Database, objects: ObjectStore, concept: ConceptRecord, now: float) -> None:
    """Delete the objects of a concept: the data of the job that learned it, then its embedding.

    Raises:
        StorageError: The object store failed. The embedding still exists.
    """
    ended = (jobs.c.id == concept.from_personalization, jobs.c.status.in_(ENDED))
    with database.read() as connection:
        job_id = connection.execute(select(jobs.c.id).where(*ended)).scalar()
    if job_id is not None:
        purge_job(database, objects, job_id, now)
    objects.delete([concept_name(concept.id)])


def purge_orphans(
    database: Database, objects: ObjectStore, settings: ServiceSettings, now: float
) -> list[str]:
    """Delete objects without a database row: their process died before it wrote the row.

    Also delete uploaded files that have expired, and the unfinished writes of dead processes, whether their row
    exists or not.
    With `delete_references_on_success`, also delete reference images whose deletion failed when their job succeeded.

    Returns:
        The ids of the jobs and concepts without a row. Ids younger than one hour are skipped.
    """
    _purge_files(objects, now)
    for prefix in ("jobs/", "concepts/"):
        objects.delete_interrupted(
            prefix, before=now - _HOUR_S, accepts=lambda name: is_id(resource_id(name))
        )
    names = [
        name for name in objects.names("jobs/") if is_id(resource_id(name))
    ]  # users may store other files there
    if settings.delete_references_on_success:
        references = [name for name in names if "/references/" in name]
        ids = sorted({resource_id(name) for name in references})
        succeeded = _existing(database, jobs, ids, jobs.c.status == Status.SUCCEEDED)
        objects.delete(name for name in references if resource_id(name) in succeeded)
    orphaned_jobs = _without_row(database, jobs, {resource_id(name) for name in names}, now)
    stored = {resource_id(name) for name in objects.names("concepts/")}
    orphaned_concepts = _without_row(database, concepts, {id_ for id_ in stored if is_id(id_)}, now)
    for job_id in orphaned_jobs:
        objects.delete_all(job_prefix(job_id))
    objects.delete(concept_name(concept_id) for concept_id in orphaned_concepts)
    return orphaned_jobs + orphaned_concepts


def _purge_files(objects: ObjectStore, now: float) -> None:
    """Delete uploaded files that have expired, and unfinished writes of files."""
    objects.delete_interrupted("files/", before=now - _HOUR_S, accepts=lambda name: is_id(_file_id(name)))
    names = [name for name in objects.names("files/") if is_id(_file_id(name))]
    objects.delete(name for name in names if creation_time(_file_id(name)) < now - FILE_LIFETIME_S)


def _file_id(name: str) -> str:
    """Return the id of the file that an object `files/OWNER/ID.KIND` belongs to."""
    return name.rpartition("/")[2].partition(".")[0]


def _without_row(database: Database, table: Table, ids: set[str], now: float) -> list[str]:
    """Return the ids, created more than an hour ago, that have no row in the table."""
    old = sorted(id_ for id_ in ids if creation_time(id_) < now - _HOUR_S)
    existing = _existing(database, table, old)
    return [id_ for id_ in old if id_ not in existing]


def _existing(database: Database, table: Table, ids: list[str], *where: ColumnElement[bool]) -> set[str]:
    """Return the ids that have a row which meets the conditions."""
    found: set[str] = set()
    for start in range(0, len(ids), _BATCH):
        query = select(table.c.id).where(table.c.id.in_(ids[start : start + _BATCH]), *where)
        with database.read() as connection:
            found |= set(connection.execute(query).scalars())
    return found
