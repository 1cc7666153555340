"""Routes of generations: draw images of a prompt with concepts of the caller."""

from __future__ import annotations

import re
from contextlib import suppress
from io import BytesIO
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from PIL import Image

from api import schemas, serializers
from api.auth import Caller, Reader, Writer
from api.deletion import delete_job
from api.generation_wait import wait_until_ended
from api.idempotent_create import IdempotencyKey, IdempotentCreate, hash_request
from api.middleware import MAX_JSON_BYTES
from api.owned_jobs import change_job, list_jobs
from api.problems import problems
from api.requests import generation
from api.requests.bodies import GenerationRequest
from api.requests.generation import prepare_creation
from api.requests.parameters import Id, Index, JobFilterQuery
from api.service import Service
from zoodip_core.contact_sheet import SheetImage, draw_contact_sheet
from zoodip_core.png_metadata import encode_marked
from zoodip_core.service.errors import ConflictError, NotFoundError
from zoodip_core.service.jobs import store
from zoodip_core.service.jobs.snapshots import snapshot
from zoodip_core.service.jobs.states import JobKind, Status
from zoodip_core.service.object_store import image_name

router = APIRouter(prefix="/v1/generations", tags=["generations"])
KIND = JobKind.GENERATION

_WAIT = re.compile(r"\bwait=(\d{1,4})\b")
_MAX_WAIT_S = 120


# First, because routes are matched in order, and clients call this one more often than all others together.
@router.get("/{id}", summary="Get a generation", response_model=schemas.Generation, responses=problems(404))
async def get(caller: Reader, id: Id) -> Response:
    """Return the current state of a generation, with links to its images once they are drawn."""
    found = await caller.service.status_batcher.find(id, caller.owner, KIND)
    return serializers.reply(serializers.generation(found, caller.service.settings.public_url))


@router.post(
    "",
    summary="Create a generation",
    status_code=202,
    response_model=schemas.Generation,
    responses={
        200: {
            "model": schemas.Generation | schemas.GenerationValidation,
            "description": "With `Prefer: wait=N`: the images are ready in time. With `validate_only`: settings and "
            "estimated usage; nothing was created",
        },
        **problems(408, 409, 413),
    },
    max_body_size=MAX_JSON_BYTES,
)
async def create(
    request: Request,
    body: GenerationRequest,
    caller: Writer,
    idempotency_key: IdempotencyKey = None,
    prefer: Annotated[
        str | None,
        Header(max_length=200, description="`wait=60` waits up to 60 s (at most 120) for the images"),
    ] = None,
    *,
    validate_only: Annotated[bool, Query(description="Validate and estimate; create nothing")] = False,
) -> Response:
    """Draw images of a prompt or of a prompt set, which may contain tokens of the caller's concepts."""
    if validate_only:
        return await run_in_threadpool(generation.validate_only, caller, body)
    trace = request.state.traceparent
    response = await run_in_threadpool(_create, caller, body, idempotency_key, trace)
    wait = _WAIT.search(prefer or "")
    if wait is None:
        return response
    job_id = response.headers["Location"].rpartition("/")[2]
    return await _wait(caller.service, caller.owner, job_id, response, min(int(wait[1]), _MAX_WAIT_S))


def _create(
    caller: Caller,
    body: GenerationRequest,
    key: str | None,
    trace: str | None,
) -> Response:
    creation = IdempotentCreate(caller, "POST /v1/generations", key, hash_request(body.model_dump(), []))
    return creation.run(lambda: prepare_creation(caller, body, trace))


async def _wait(service: Service, owner: str, job_id: str, accepted: Response, wait_s: int) -> Response:
    """Return the ended job if it ends within `wait_s`, else the response that accepted it."""
    with suppress(NotFoundError):  # the response was replayed and the job is already deleted
        ended = await wait_until_ended(service, owner, job_id, wait_s)
        if ended is not None:
            response = serializers.generation(ended, service.settings.public_url)
            return serializers.reply(response, headers={"Preference-Applied": f"wait={wait_s}"})
    return accepted


@router.get("", summary="List generations", response_model=schemas.GenerationList, responses=problems())
def list_all(caller: Reader, chosen: JobFilterQuery) -> Response:
    """Return the generations of the caller, newest first. `metadata[name]=value` filters by metadata."""
    found, more = list_jobs(caller, KIND, chosen)
    data = [serializers.generation(job, caller.service.settings.public_url) for job in found]
    return serializers.reply(schemas.GenerationList(data=data, has_more=more))


@router.post(
    "/{id}/cancel",
    summary="Cancel a generation",
    response_model=schemas.Generation,
    responses=problems(404),
)
def cancel(caller: Writer, id: Id) -> Response:
    """Stop a generation. A running one stops within a denoising step; an ended one does not change."""
    changed = change_job(caller, KIND, id, store.cancel)
    return serializers.reply(serializers.generation(changed, caller.service.settings.public_url))


@router.delete(
    "/{id}",
    summary="Delete a generation",
    status_code=204,
    response_class=Response,
    responses=problems(404, 409),
)
def delete(caller: Writer, id: Id) -> Response:
    """Delete an ended generation with its images."""
    delete_job(caller, id, KIND)
    return Response(status_code=204)


@router.get(
    "/{id}/images/{k}.png",
    summary="Get an image",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}, "description": "Image"}, **problems(404)},
)
def image(
    caller: Reader, id: Id, k: Annotated[Index, Path(description="Index of the image, from 0")]
) -> Response:
    """Return image `k`, from 0. Its metadata contains prompt, seed, concepts and model fingerprint."""
    with caller.service.database.read() as connection:
        store.find(connection, id, owner=caller.owner, kind=KIND)
    return Response(caller.service.objects.get(image_name(id, k)), media_type="image/png")


@router.get(
    "/{id}/contact-sheet.png",
    summary="Get a contact sheet",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}, "description": "Contact sheet"}, **problems(404, 409)},
)
def contact_sheet(caller: Reader, id: Id) -> Response:
    """Return all images of a generation in one picture, by prompt, with their concepts and seeds."""
    with caller.service.database.read() as connection:
        job = snapshot(connection, store.find(connection, id, owner=caller.owner, kind=KIND))
    if job.status is not Status.SUCCEEDED:
        raise ConflictError(f"a {job.status} generation has no contact sheet")
    prompts = serializers.prompts_of(job)
    entries = [
        SheetImage.of(prompts[index]["template"], prompts[index]["concept"], seed, image)
        for k, (index, seed) in enumerate(serializers.drawn_images(job))
        for image in [Image.open(BytesIO(caller.service.objects.get(image_name(id, k))))]
    ]
    return Response(encode_marked(draw_contact_sheet(entries)), media_type="image/png")
