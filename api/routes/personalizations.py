"""Routes of personalizations: create from an upload, list, control and delete."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from api import schemas, serializers
from api.auth import Caller, Reader, Writer
from api.decoding.decoder import Decoder
from api.deletion import delete_job
from api.idempotent_create import (
    IdempotencyKey,
    IdempotentCreate,
    hash_request,
)
from api.owned_jobs import Change, change_job, list_jobs
from api.personalization_resume import resume_change
from api.problems import problems
from api.requests import personalization
from api.requests.bodies import PersonalizationRequest
from api.requests.json_field import parse_json_field
from api.requests.parameters import Id, Index, JobFilterQuery
from api.requests.personalization import prepare_creation
from api.requests.reference_files import RemoteImage, download, remote_images, uploaded_images
from api.requests.reference_images import IMAGES_SCHEMA, images_form
from api.requests.resolved_personalization import PersonalizationSubmission
from api.requests.uploaded_files import Upload
from api.requests.uploads import receive_upload
from zoodip_core.service.jobs import store
from zoodip_core.service.jobs.states import JobKind
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
                    "required": ["request"],
                    "properties": {
                        "images": IMAGES_SCHEMA,
                        "request": {"$ref": "#/components/schemas/PersonalizationRequest"},
                    },
                },
                "encoding": {"request": {"contentType": "application/json"}},
            }
        },
    }
}


# First, because routes are matched in order, and clients call this one more often than all others together.
@router.get(
    "/{id}",
    summary="Get a personalization",
    response_model=schemas.Personalization,
    responses=problems(404),
)
async def get(caller: Reader, id: Id) -> Response:
    """Return the current state of a personalization."""
    return serializers.reply(
        serializers.personalization(await caller.service.status_batcher.find(id, caller.owner, KIND))
    )


@router.post(
    "",
    summary="Create a personalization",
    status_code=202,
    response_model=schemas.Personalization,
    responses={
        200: {
            "model": schemas.Validation,
            "description": "With `validate_only`: settings and estimated cost; nothing was created",
        },
        **problems(408, 409, 413, 415),
    },
    openapi_extra=_BODY,
)
async def create(
    request: Request,
    caller: Writer,
    idempotency_key: IdempotencyKey = None,
    *,
    validate_only: Annotated[bool, Query(description="Validate and estimate; create nothing")] = False,
) -> Response:
    """Learn a concept from 1 to 16 reference images: files, images in ZIP files, and images named by URLs."""
    slots = caller.service.upload_slots
    async with receive_upload(request, caller, images_form(caller.service, "request")) as upload:
        parsed = parse_json_field(upload, "request", PersonalizationRequest)
        remote = remote_images(caller, parsed.image_urls)
        submission = await slots.run(
            caller.owner, _submission, caller, upload, parsed, remote, request.state.traceparent
        )
        create = None if validate_only else _idempotent(caller, upload, parsed, idempotency_key)
        if remote:
            replayed = await slots.run(caller.owner, _check_before_download, caller, submission, create)
            if replayed is not None:
                return replayed
            await download(caller, upload, remote)
        async with caller.service.decoders.reserve(caller.owner) as decoder:
            return await slots.run(caller.owner, _answer, caller, submission, create, decoder)


def _submission(
    caller: Caller,
    upload: Upload,
    parsed: PersonalizationRequest,
    remote: list[RemoteImage],
    trace: str | None,
) -> PersonalizationSubmission:
    files = uploaded_images(upload, caller.service.settings.image_limits, len(remote))
    return PersonalizationSubmission(parsed, [*files, *(image.file for image in remote)], trace)


def _idempotent(
    caller: Caller, upload: Upload, parsed: PersonalizationRequest, key: str | None
) -> IdempotentCreate:
    """Return the creation of a request, which is the same request as long as its URLs are the same."""
    digests = [file.digest.hexdigest() for file in upload.files]
    request_hash = hash_request(parsed.model_dump(), digests)
    return IdempotentCreate(caller, "POST /v1/personalizations", key, request_hash)


def _check_before_download(
    caller: Caller, submission: PersonalizationSubmission, create: IdempotentCreate | None
) -> Response | None:
    """Validate the submission, unless its response is replayed. Return that response, or None."""
    replayed = None if create is None else create.replay()
    if replayed is None:
        personalization.check(caller, submission)
    return replayed


def _answer(
    caller: Caller, submission: PersonalizationSubmission, create: IdempotentCreate | None, decoder: Decoder
) -> Response:
    if create is None:
        return personalization.validate_only(caller, submission, decoder)
    return create.run(lambda: prepare_creation(caller, submission, decoder))


@router.get(
    "", summary="List personalizations", response_model=schemas.PersonalizationList, responses=problems()
)
def list_all(caller: Reader, chosen: JobFilterQuery) -> Response:
    """Return the personalizations of the caller, newest first. `metadata[name]=value` filters by metadata."""
    found, more = list_jobs(caller, KIND, chosen)
    data = [serializers.personalization(job) for job in found]
    return serializers.reply(schemas.PersonalizationList(data=data, has_more=more))


@router.post(
    "/{id}/cancel",
    summary="Cancel a personalization",
    response_model=schemas.Personalization,
    responses=problems(404),
)
def cancel(caller: Writer, id: Id) -> Response:
    """Stop a personalization for good. A running one stops within a step; an ended one does not change."""
    return _change(caller, id, store.cancel)


@router.post(
    "/{id}/pause",
    summary="Pause a personalization",
    response_model=schemas.Personalization,
    responses=problems(404, 409),
)
def pause(caller: Writer, id: Id) -> Response:
    """Save a checkpoint and stop."""
    return _change(caller, id, store.pause)


@router.post(
    "/{id}/resume",
    summary="Resume a personalization",
    response_model=schemas.Personalization,
    responses=problems(404, 409),
)
def resume(caller: Writer, id: Id) -> Response:
    """Continue from the checkpoint: a paused personalization, or a failed one whose error is retryable."""
    return _change(caller, id, resume_change(caller))


def _change(caller: Caller, job_id: str, change: Change) -> Response:
    return serializers.reply(serializers.personalization(change_job(caller, KIND, job_id, change)))


@router.delete(
    "/{id}",
    summary="Delete a personalization",
    status_code=204,
    response_class=Response,
    responses=problems(404, 409),
)
def delete(caller: Writer, id: Id) -> Response:
    """Delete an ended personalization with its reference images, previews and checkpoints. Its concept stays."""
    delete_job(caller, id, KIND)
    return Response(status_code=204)


@router.get(
    "/{id}/previews/{step}.png",
    summary="Get a preview",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}, "description": "Preview image"}, **problems(404)},
)
def preview(
    caller: Reader, id: Id, step: Annotated[Index, Path(description="Step of the preview")]
) -> Response:
    """Return the image that the token drew after this step. All previews use the same seed."""
    with caller.service.database.read() as connection:
        store.find(connection, id, owner=caller.owner, kind=KIND)
    return Response(caller.service.objects.get(preview_name(id, step)), media_type="image/png")
