"""Resume of personalizations. A failed one counts as unfinished again, so its limits are checked again."""

from __future__ import annotations

from sqlalchemy import Connection

from api.auth import Caller
from api.idempotent_create import check_concept_quota, check_job_quota
from api.owned_jobs import Change
from zoodip_core.service import concepts
from zoodip_core.service.database import acquire_creation_lock
from zoodip_core.service.jobs import resumption
from zoodip_core.service.jobs.records import Job


def resume_change(caller: Caller) -> Change:
    """Return the change that continues a personalization of the caller from its checkpoint.

    It raises ConflictError for a job that cannot be resumed, and the errors of a creation for a failed job.
    """

    def change(connection: Connection, job: Job, now: float) -> Job:
        if resumption.is_resumable(job):
            _check_creatable_again(connection, caller, job)
        return resumption.resume(connection, job, now)

    return change


def _check_creatable_again(connection: Connection, caller: Caller, failed: Job) -> None:
    """Validate that a failed job can count as unfinished again: quotas may be exhausted, its token taken."""
    acquire_creation_lock(connection)
    token = failed.token or ""
    check_job_quota(connection, caller)
    check_concept_quota(connection, caller, failed.base_model, token)
    if not failed.request["replace"]:
        concepts.check_token_available(connection, failed.owner, failed.base_model, token)
