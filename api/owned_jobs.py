"""Lists and changes of the caller's jobs, which the routes of both kinds share."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import Connection

from api.auth import Caller
from api.requests.parameters import JobFilter
from zoodip_core.service.jobs import store
from zoodip_core.service.jobs.records import Job, JobSnapshot
from zoodip_core.service.jobs.snapshots import list_page, snapshot
from zoodip_core.service.jobs.states import JobKind, Status

Change = Callable[[Connection, Job, float], Job]
"""Changes a job in a write transaction; takes the time in seconds since 1970."""


def list_jobs(caller: Caller, kind: JobKind, chosen: JobFilter) -> tuple[list[JobSnapshot], bool]:
    """Return one page of the caller's jobs, newest first, and whether more follow."""
    with caller.service.database.read() as connection:
        return list_page(
            connection,
            caller.owner,
            kind,
            after=chosen.after,
            limit=chosen.limit,
            status=chosen.status,
            metadata=chosen.metadata,
            queue_order=caller.service.queue_order,
        )


def change_job(caller: Caller, kind: JobKind, job_id: str, change: Change) -> JobSnapshot:
    """Change a job of the caller, wake a worker if it is queued then, and return it.

    Raises:
        NotFoundError: The caller has no such job.
        ZoodipError: The job cannot be changed in this way.
    """
    with caller.service.database.write() as connection:
        job = store.find(connection, job_id, owner=caller.owner, kind=kind)
        job = change(connection, job, time.time())
        changed = snapshot(connection, job)
    if job.status == Status.QUEUED:
        caller.service.wake(kind, job.id)
    return changed
