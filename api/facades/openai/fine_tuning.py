"""`/v1/fine_tuning/jobs`: personalizations as OpenAI's fine-tuning jobs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from api.auth import Caller, Reader, Writer
from api.facades.learning import Training, learn
from api.facades.openai.errors import OpenAIRoute
from api.facades.openai.fine_tuning_request import (
    FineTuningRequest,
    ignored_fields,
    personalization_request,
)
from api.facades.openai.fine_tuning_response import (
    checkpoint_of,
    event_id,
    event_of,
    job_of,
    page,
)
from api.idempotent_create import IdempotencyKey
from api.middleware import MAX_JSON_BYTES
from api.owned_jobs import Change, change_job, list_jobs
from api.personalization_resume import resume_change
from api.requests.parameters import After, JobFilter, Limit, metadata_filter
from zoodip_core.service.errors import NotFoundError
from zoodip_core.service.ids import is_id
from zoodip_core.service.jobs import events, store
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.jobs.snapshots import snapshot
from zoodip_core.service.jobs.states import JobKind

router = APIRouter(prefix="/v1/fine_tuning/jobs", route_class=OpenAIRoute, include_in_schema=False)
KIND = JobKind.PERSONALIZATION
_ROUTE = "POST /v1/fine_tuning/jobs"
_MAX_CHECKPOINTS = 100


@router.post("", max_body_size=MAX_JSON_BYTES)
async def create(
    request: Request, body: FineTuningRequest, caller: Writer, idempotency_key: IdempotencyKey = None
) -> Response:
    """Learn a concept from the images of a training file."""
    training = Training(
        route=_ROUTE,
        key=idempotency_key,
        body=body.model_dump(),
        file_id=body.training_file,
        translate=lambda: personalization_request(caller, body),
        warnings=ignored_fields(body),
    )
    job_id = await learn(request, caller, training)
    return JSONResponse(await run_in_threadpool(_described, caller, job_id))


@router.get("")
def list_all(
    caller: Reader,
    metadata: Annotated[dict[str, str], Depends(metadata_filter)],
    after: After = None,
    limit: Limit = 20,
) -> dict[str, Any]:
    """Return the caller's personalizations, newest first, also those that `/v1/personalizations` has created."""
    found, more = list_jobs(caller, KIND, JobFilter(after, limit, None, metadata))
    return page([job_of(job) for job in found], has_more=more)


@router.get("/{id}")
async def get(caller: Reader, id: str) -> dict[str, Any]:
    """Return the current state of a job."""
    return job_of(await caller.service.status_batcher.find(_checked(id), caller.owner, KIND))


@router.post("/{id}/cancel")
def cancel(caller: Writer, id: str) -> dict[str, Any]:
    """Stop a job for good."""
    return _change(caller, id, store.cancel)


@router.post("/{id}/pause")
def pause(caller: Writer, id: str) -> dict[str, Any]:
    """Save a checkpoint and stop."""
    return _change(caller, id, store.pause)


@router.post("/{id}/resume")
def resume(caller: Writer, id: str) -> dict[str, Any]:
    """Continue from the checkpoint."""
    return _change(caller, id, resume_change(caller))


@router.get("/{id}/events")
def list_events(
    caller: Reader,
    id: str,
    after: Annotated[str | None, Query(pattern=r"^ftevent-\d{1,18}$")] = None,
    limit: Limit = 20,
) -> dict[str, Any]:
    """Return the events of a job, newest first."""
    _find(caller, id)
    before = None if after is None else event_id(after)
    with caller.service.database.read() as connection:
        found = events.newest(connection, id, before=before, limit=limit + 1)
    return page([event_of(event) for event in found[:limit]], has_more=len(found) > limit)


@router.get("/{id}/checkpoints")
def list_checkpoints(caller: Reader, id: str) -> dict[str, Any]:
    """Return the stored checkpoints of a job, newest first."""
    job = _find(caller, id)
    with caller.service.database.read() as connection:
        found = events.newest(connection, id, type_="checkpoint", limit=_MAX_CHECKPOINTS)
    return page(
        [checkpoint_of(event) for event in found if event.data["step"] in job.checkpoints], has_more=False
    )


def _checked(job_id: str) -> str:
    """Return the id of a job, or refuse text that cannot be one."""
    if not is_id(job_id):
        raise NotFoundError(f"fine-tuning job {job_id!r} does not exist")
    return job_id


def _find(caller: Caller, job_id: str) -> Job:
    with caller.service.database.read() as connection:
        return store.find(connection, _checked(job_id), owner=caller.owner, kind=KIND)


def _described(caller: Caller, job_id: str) -> dict[str, Any]:
    with caller.service.database.read() as connection:
        return job_of(snapshot(connection, store.find(connection, job_id)))


def _change(caller: Caller, job_id: str, change: Change) -> dict[str, Any]:
    return job_of(change_job(caller, KIND, _checked(job_id), change))
