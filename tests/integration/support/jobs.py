"""Queued, claimed and lost jobs, written directly to the database."""

from __future__ import annotations

from typing import Any

from zoodip_core.service.database import Database
from zoodip_core.service.ids import new_id
from zoodip_core.service.jobs import leases, reaping, store
from zoodip_core.service.jobs.records import Job, NewJob
from zoodip_core.service.jobs.states import JobKind

NOW = 1_700_000_000.0
LEASE_S = 30.0
WITHOUT_PHOTOS: dict[str, Any] = {  # request of a personalization that the stub engine can run
    "initializer": "dog",
    "kind": "object",
    "captions": None,
    "settings": {"seed": 0, "measure_every": 10, "checkpoint_every": 10, "stop": "steps"},
    "replace": False,
    "images": 0,
}


def queue(
    database: Database, *, kind: JobKind = JobKind.PERSONALIZATION, now: float = NOW, **fields: Any
) -> Job:
    """Insert a queued job and return it; `fields` override the defaults."""
    values: dict[str, Any] = {
        "owner": "alice",
        "base_model": "emoji",
        "token": "<my-dog>",
        "request": {"initializer": "dog"},
        "total_steps": 100,
        "metadata": {},
    }
    new = NewJob(id=new_id(kind[:3], now), kind=kind, **{**values, **fields})
    with database.write() as connection:
        return store.add(connection, new, now)


def claim(database: Database, job_id: str, worker: str = "w1", now: float = NOW) -> Job | None:
    """Claim a job; return None if it is not queued."""
    with database.write() as connection:
        return leases.claim(connection, job_id, worker, now, LEASE_S)


def claimed(database: Database, job_id: str, worker: str = "w1", now: float = NOW) -> Job:
    """Claim a queued job and return it."""
    job = claim(database, job_id, worker, now)
    assert job is not None
    return job


def reap(database: Database, now: float, max_attempts: int = 3) -> list[Job]:
    """Requeue all jobs that are running now, as if their leases had expired."""
    with database.write() as connection:
        return reaping.reap(connection, reaping.terms(connection), now, max_attempts)
