"""`POST /v1/images/generations`: draw images and return them in the response or in a stream."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse

from api.auth import Caller, Writer
from api.facades.drawing import job_id_of, wait_for_images
from api.facades.openai.errors import OpenAIRoute
from api.facades.openai.image_request import ImageRequest, prepare_images
from api.facades.openai.image_response import image_response
from api.facades.openai.image_stream import image_events
from api.idempotent_create import IdempotencyKey, IdempotentCreate, hash_request
from api.middleware import MAX_JSON_BYTES

router = APIRouter(prefix="/v1/images", route_class=OpenAIRoute, include_in_schema=False)
_ROUTE = "POST /v1/images/generations"


@router.post("/generations", max_body_size=MAX_JSON_BYTES)
async def generate(
    request: Request, body: ImageRequest, caller: Writer, idempotency_key: IdempotencyKey = None
) -> Response:
    """Draw images of a prompt. The request waits for them; a client that disconnects cancels the generation."""
    trace = request.state.traceparent
    created = await run_in_threadpool(_create, caller, body, idempotency_key, trace)
    job_id = job_id_of(created)
    if body.stream:
        return StreamingResponse(
            image_events(request, caller, job_id, body),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
    job = await wait_for_images(request, caller, job_id)
    base_url = caller.service.settings.public_url or str(request.base_url).rstrip("/")
    return JSONResponse(await run_in_threadpool(image_response, caller, job, body, base_url))


def _create(caller: Caller, body: ImageRequest, key: str | None, trace: str | None) -> Response:
    creation = IdempotentCreate(caller, _ROUTE, key, hash_request(body.model_dump(), []))
    return creation.run(lambda: prepare_images(caller, body, trace))
