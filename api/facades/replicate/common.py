"""Statuses, times, URLs and logs of predictions and trainings in Replicate's API."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Path, Request

from api import serializers
from api.auth import Caller
from zoodip_core.service.errors import NotFoundError
from zoodip_core.service.ids import is_id
from zoodip_core.service.jobs.records import JobSnapshot
from zoodip_core.service.jobs.states import Status

PREFIX = "/replicate/v1"

_STATUS = {
    Status.QUEUED: "starting",
    Status.RUNNING: "processing",
    Status.PAUSED: "starting",
    Status.SUCCEEDED: "succeeded",
    Status.FAILED: "failed",
    Status.CANCELLED: "canceled",
}
_BAR_CHARACTERS = 20


def _known_id(id: Annotated[str, Path(max_length=200)]) -> str:
    if not is_id(id):
        raise NotFoundError(f"{id!r} does not exist")
    return id


JobId = Annotated[str, Depends(_known_id)]
"""Id in a path. One of another form is that of an unknown job, as in Replicate's API."""


def base_url(request: Request, caller: Caller) -> str:
    """Return the URL of this façade, without a slash at its end."""
    return (caller.service.settings.public_url or str(request.base_url).rstrip("/")) + PREFIX


def common_fields(job: JobSnapshot, resource_url: str) -> dict[str, Any]:
    """Return the fields that predictions and trainings have.

    Args:
        job: the job.
        resource_url: URL of the resource in this façade.
    """
    return {
        "id": job.id,
        "model": f"zoodip/{job.base_model}",
        "version": job.base_model,
        "status": _STATUS[job.status],
        "logs": _log(job),
        "error": job.error and job.error["message"],
        "created_at": serializers.timestamp(job.created_at),
        "started_at": serializers.timestamp(job.started_at),
        "completed_at": serializers.timestamp(job.finished_at),
        "urls": {"get": resource_url, "cancel": f"{resource_url}/cancel"},
        "warnings": job.request["warnings"],
    }


def _log(job: JobSnapshot) -> str:
    """Return the warnings, and a progress bar as the client parses it."""
    share = job.step / job.total_steps
    bar = ("#" * round(share * _BAR_CHARACTERS)).ljust(_BAR_CHARACTERS)
    lines = [f"warning: {warning['message']}" for warning in job.request["warnings"]]
    return "\n".join([*lines, f"{share:.0%}|{bar}| {job.step}/{job.total_steps}"])
