"""`txt2img`, `progress` and `interrupt`: draw images, look at the current job, stop it."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from PIL import Image

from api.auth import Caller, Reader, Writer
from api.facades.a1111.errors import A1111Route
from api.facades.a1111.infotext import generation_info
from api.facades.a1111.txt2img_request import JOB_METADATA, Txt2ImgRequest, prepare_txt2img
from api.facades.drawing import job_id_of, read_images, wait_for_images
from api.idempotent_create import IdempotencyKey, IdempotentCreate, hash_request
from api.middleware import MAX_JSON_BYTES
from api.owned_jobs import change_job
from zoodip_core.service.jobs import store
from zoodip_core.service.jobs.records import JobSnapshot
from zoodip_core.service.jobs.snapshots import list_page
from zoodip_core.service.jobs.states import JobKind, Status

router = APIRouter(prefix="/sdapi/v1", route_class=A1111Route, include_in_schema=False)
_ROUTE = "POST /sdapi/v1/txt2img"
_MAX_JOBS = 100


@router.post("/txt2img", max_body_size=MAX_JSON_BYTES)
async def txt2img(
    request: Request, body: Txt2ImgRequest, caller: Writer, idempotency_key: IdempotencyKey = None
) -> Response:
    """Draw images of a prompt. The request waits for them; a client that disconnects cancels the generation."""
    trace = request.state.traceparent
    created = await run_in_threadpool(_create, caller, body, idempotency_key, trace)
    job = await wait_for_images(request, caller, job_id_of(created))
    return JSONResponse(await run_in_threadpool(_drawn, caller, job, body))


@router.get("/progress")
def progress(caller: Reader) -> dict[str, Any]:
    """Return the progress of the oldest running generation that this façade has created, and their number."""
    active = _active(caller)
    running = [job for job in active if job.status == Status.RUNNING]
    job = running[-1] if running else None
    return {
        "progress": 0.0 if job is None else job.step / job.total_steps,
        "eta_relative": 0.0 if job is None else job.eta_s or 0.0,
        "state": {
            "skipped": False,
            "interrupted": False,
            "stopping_generation": False,
            "job": "" if job is None else job.id,
            "job_count": len(active),
            "job_timestamp": "0",
            "job_no": 0,
            "sampling_step": 0 if job is None else job.step,
            "sampling_steps": 0 if job is None else job.total_steps,
        },
        "current_image": None,
        "textinfo": None,
    }


@router.post("/interrupt")
def interrupt(caller: Writer) -> dict[str, Any]:
    """Cancel all unfinished generations that this façade has created for the owner."""
    for job in _active(caller):
        change_job(caller, JobKind.GENERATION, job.id, store.cancel)
    return {}


def _create(caller: Caller, body: Txt2ImgRequest, key: str | None, trace: str | None) -> Response:
    creation = IdempotentCreate(caller, _ROUTE, key, hash_request(body.model_dump(), []))
    return creation.run(lambda: prepare_txt2img(caller, body, trace))


def _drawn(caller: Caller, job: JobSnapshot, body: Txt2ImgRequest) -> dict[str, Any]:
    files = read_images(caller, job)
    facts = caller.service.base_models.complete_facts(job.base_model)
    size_px = Image.open(BytesIO(files[0])).size
    return {
        "images": [] if body.send_images is False else [base64.b64encode(png).decode() for png in files],
        "parameters": body.model_dump(),
        "info": generation_info(job, size_px, None if facts is None else facts.fingerprint),
        "warnings": job.request["warnings"],
    }


def _active(caller: Caller) -> list[JobSnapshot]:
    """Return the unfinished generations of this façade, running ones first, each newest first."""
    with caller.service.database.read() as connection:
        return [
            job
            for status in (Status.RUNNING, Status.QUEUED)
            for job in list_page(
                connection,
                caller.owner,
                JobKind.GENERATION,
                limit=_MAX_JOBS,
                status=status,
                metadata=JOB_METADATA,
                queue_order=caller.service.queue_order,
            )[0]
        ]
