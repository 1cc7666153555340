"""What goes with age, or with its concept: photos, previews, checkpoints and events of ended jobs; old answers."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Table, and_, exists, or_, select, update

from zoodip_core.service import idempotency
from zoodip_core.service.concepts import ConceptRecord
from zoodip_core.service.database import Database
from zoodip_core.service.ids import is_id, made_at
from zoodip_core.service.jobs import events
from zoodip_core.service.jobs.states import ENDED, JobKind, Status
from zoodip_core.service.object_store import ObjectStore, concept_name, job_prefix
from zoodip_core.service.settings import ServiceSettings
from zoodip_core.service.tables import concepts, jobs

_DAY_S, _HOUR_S = 86_400.0, 3_600.0
_BATCH = 50


def purge(database: Database, objects: ObjectStore, settings: ServiceSettings, now: float) -> list[str]:
    """Drop what is too old, or belonged to a concept that is gone; the ids of the jobs that lost all they held."""
    with database.write() as connection:
        idempotency.purge_expired(connection, now - settings.idempotency_hours * _HOUR_S)
    outlived = and_(
        jobs.c.kind == JobKind.PERSONALIZATION,
        jobs.c.status == Status.SUCCEEDED,
        ~exists().where(concepts.c.from_personalization == jobs.c.id),
    )
    goes = outlived
    if settings.retention_days is not None:
        old = jobs.c.finished_at < now - settings.retention_days * _DAY_S
        goes = or_(outlived, and_(jobs.c.status.in_(ENDED), old))
    with database.read() as connection:
        query = select(jobs.c.id).where(jobs.c.purged_at.is_(None), goes).limit(_BATCH)
        ids = list(connection.execute(query).scalars())
    for job_id in ids:
        purge_job(database, objects, job_id, now)
    return ids


def purge_job(database: Database, objects: ObjectStore, job_id: str, now: float) -> None:
    """Drop the photos, previews, checkpoints and events of an ended job; what it was and came to stays.

    Raises:
        StorageError: the object store refuses; the row still says that there are some.
    """
    objects.delete_all(job_prefix(job_id))  # first the bytes: a failure leaves the row to be tried again
    with database.write() as connection:
        events.delete_for_job(connection, job_id)
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(purged_at=now, checkpoints=[]))


def purge_concept(database: Database, objects: ObjectStore, concept: ConceptRecord, now: float) -> None:
    """Drop all bytes of a concept that goes: what the job holds that learned it, and then its embedding.

    Raises:
        StorageError: the object store refuses; the embedding is still there.
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
    """Drop objects of jobs and concepts that never came to be: the process died between bytes and row.

    And photos that were to go when their job succeeded, if the object store refused then.
    """
    names = [
        name for name in objects.names("jobs/") if is_id(_id_of(name))
    ]  # people put other files there, too
    if settings.delete_references_on_success:
        photos = [name for name in names if "/references/" in name]
        ids = sorted({_id_of(name) for name in photos})
        done = _known(database, jobs, ids, jobs.c.status == Status.SUCCEEDED)
        objects.delete(name for name in photos if _id_of(name) in done)
    lost_jobs = _without_row(database, jobs, {_id_of(name) for name in names}, now)
    learned = {_id_of(name) for name in objects.names("concepts/")}
    lost_concepts = _without_row(database, concepts, {one for one in learned if is_id(one)}, now)
    for job_id in lost_jobs:
        objects.delete_all(job_prefix(job_id))
    objects.delete(concept_name(concept_id) for concept_id in lost_concepts)
    return lost_jobs + lost_concepts


def _id_of(name: str) -> str:
    """The job or concept that an object belongs to."""
    return name.split("/")[1].removesuffix(".safetensors")


def _without_row(database: Database, table: Table, ids: set[str], now: float) -> list[str]:
    """Those of the ids, made more than an hour ago, that the table does not know."""
    old = sorted(one for one in ids if made_at(one) < now - _HOUR_S)
    known = _known(database, table, old)
    return [one for one in old if one not in known]


def _known(database: Database, table: Table, ids: list[str], *where: ColumnElement[bool]) -> set[str]:
    """Those of the ids whose row is there and as asked."""
    found: set[str] = set()
    for start in range(0, len(ids), _BATCH):
        query = select(table.c.id).where(table.c.id.in_(ids[start : start + _BATCH]), *where)
        with database.read() as connection:
            found |= set(connection.execute(query).scalars())
    return found
