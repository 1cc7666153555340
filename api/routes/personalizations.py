"""Personalizations: made from an upload, listed, steered, deleted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Connection

from api import schemas, serializers
from api.auth import Caller, Reader, Writer
from api.deletion import delete_job
from api.idempotent_create import IdempotencyKey, IdempotentCreate, hash_of
from api.problems import problems
from api.requests.parameters import After, Id, Limit, metadata_filter
from api.requests.personalization import (
    PersonalizationSubmission,
    parse_request,
    prepare_creation,
    validation,
)
from api.requests.uploads import read_upload
from zoodip_core.images import MAX_IMAGES
from zoodip_core.service.jobs import store
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.jobs.snapshots import list_page, snapshot
from zoodip_core.service.jobs.states import JobKind, Status
from zoodip_core.service.object_store import preview_name

router = APIRouter(prefix="/v1/personalizations", tags=["personalizations"])
KIND = JobKind.PERSONALIZATION

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images", "request"],
                    "properties": {
                        "images": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": MAX_IMAGES,
                            "items": {"type": "string", "format": "binary"},
                        },
                        "request": {"$ref": "#/components/schemas/PersonalizationRequest"},
                    },
                },
                "encoding": {"request": {"contentType": "application/json"}},
            }
        },
    }
}


# First, for routes are tried in their order, and this one is asked more often than all others together.
@router.get("/{id}", response_model=schemas.Personalization, responses=problems(404))
async def get(caller: Reader, id: Id) -> Response:
    """Where the personalization stands."""
    return serializers.reply(
        serializers.personalization(await caller.service.status_batcher.find(id, caller.owner, KIND))
    )


@router.post(
    "",
    status_code=202,
    response_model=schemas.Personalization,
    responses={
        200: {"model": schemas.Validation, "description": "validate_only: nothing was created"},
        **problems(409, 413, 415),
    },
    openapi_extra=_BODY,
)
async def create(
    request: Request,
    caller: Writer,
    idempotency_key: IdempotencyKey = None,
    *,
    validate_only: Annotated[bool, Query()] = False,
) -> Response:
    """Learn a concept from 1 to 16 photos."""
    max_file_bytes = int(caller.service.settings.max_file_mb * 1_000_000)
    async with read_upload(request, max_file_bytes=max_file_bytes, max_files=MAX_IMAGES) as upload:
        wanted = parse_request(upload)
        submission = PersonalizationSubmission(wanted, upload.of_part("images"), request.state.traceparent)
        if validate_only:
            return await run_in_threadpool(validation, caller, submission)
        return await run_in_threadpool(_create, caller, submission, idempotency_key)


def _create(caller: Caller, submission: PersonalizationSubmission, key: str | None) -> Response:
    digests = [file.digest.hexdigest() for file in submission.files]
    once = IdempotentCreate(
        caller,
        "POST /v1/personalizations",
        key,
        hash_of(submission.wanted.model_dump(), digests),
    )
    return once.run(lambda: prepare_creation(caller, submission))


@router.get("", response_model=schemas.PersonalizationList, responses=problems())
def list_all(
    caller: Reader,
    metadata: Annotated[dict[str, str], Depends(metadata_filter)],
    after: After = None,
    limit: Limit = 20,
    status: Status | None = None,
) -> Response:
    """The caller's personalizations, newest first; `metadata[name]=value` filters."""
    with caller.service.database.read() as connection:
        found, more = list_page(
            connection, caller.owner, KIND, after=after, limit=limit, status=status, metadata=metadata
        )
    data = [serializers.personalization(one) for one in found]
    return serializers.reply(schemas.PersonalizationList(data=data, has_more=more))


@router.post("/{id}/cancel", response_model=schemas.Personalization, responses=problems(404))
def cancel(caller: Writer, id: Id) -> Response:
    """Stop it for good, within a step if it runs; an ended one stays as it is."""
    return _steer(caller, id, store.cancel)


@router.post("/{id}/pause", response_model=schemas.Personalization, responses=problems(404, 409))
def pause(caller: Writer, id: Id) -> Response:
    """Stop it with a checkpoint."""
    return _steer(caller, id, store.pause)


@router.post("/{id}/resume", response_model=schemas.Personalization, responses=problems(404, 409))
def resume(caller: Writer, id: Id) -> Response:
    """Go on at the checkpoint."""
    return _steer(caller, id, store.resume)


def _steer(caller: Caller, job_id: str, act: Callable[[Connection, Job, float], Job]) -> Response:
    with caller.service.database.write() as connection:
        job = store.find(connection, job_id, owner=caller.owner, kind=KIND)
        job = act(connection, job, time.time())
        response = serializers.reply(serializers.personalization(snapshot(connection, job)))
    if job.status == Status.QUEUED:
        caller.service.wake(KIND, job.id)
    return response


@router.delete("/{id}", status_code=204, response_class=Response, responses=problems(404, 409))
def delete(caller: Writer, id: Id) -> Response:
    """Drop an ended personalization with its photos, previews and checkpoints; its concept stays."""
    delete_job(caller, id, KIND)
    return Response(status_code=204)


@router.get(
    "/{id}/previews/{step}.png",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}, "description": "The preview"}, **problems(404)},
)
def preview(caller: Reader, id: Id, step: Annotated[int, Path(ge=0)]) -> Response:
    """What the token drew after that step; the same seed every time."""
    with caller.service.database.read() as connection:
        store.find(connection, id, owner=caller.owner, kind=KIND)
    return Response(caller.service.objects.get(preview_name(id, step)), media_type="image/png")
