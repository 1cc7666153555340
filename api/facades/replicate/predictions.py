"""Predictions of Replicate's API: generations, which go on when the client disconnects."""

from __future__ import annotations

import base64
import re
import secrets
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import ConfigDict, Field

from api.auth import Caller, Reader, Writer
from api.facades.drawing import job_id_of, read_images
from api.facades.ignored_fields import ignored
from api.facades.image_size import fitted_size
from api.facades.model_names import find_model
from api.facades.native_request import native_request
from api.facades.replicate.common import PREFIX, JobId, base_url, common_fields
from api.generation_wait import wait_until_ended
from api.idempotent_create import Creation, IdempotencyKey, IdempotentCreate, hash_request
from api.middleware import MAX_JSON_BYTES
from api.owned_jobs import change_job, list_jobs
from api.requests.bodies import GenerationRequest, RequestBody
from api.requests.generation import GenerationOptions, prepare_creation
from api.requests.parameters import JobFilter
from zoodip_core.base_models.scheduler_names import SCHEDULERS
from zoodip_core.errors import InvalidInputError
from zoodip_core.service.jobs import store
from zoodip_core.service.jobs.records import JobSnapshot
from zoodip_core.service.jobs.states import JobKind, Status

router = APIRouter(prefix=PREFIX, include_in_schema=False)
KIND = JobKind.GENERATION

_INPUTS = {  # input of Replicate's models → field of a native generation
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "num_outputs": "n",
    "num_inference_steps": "steps",
    "guidance_scale": "guidance_scale",
    "seed": "seed",
    "scheduler": "scheduler",
}
_WAIT = re.compile(r"\bwait(?:=(\d{1,4}))?\b")
_MAX_WAIT_S = 60
_MAX_LISTED = 100
_MAX_SEED = 2**32 - 64
_DEFAULT_SIDE_PX, _MAX_SIDE_PX = 512, 100_000
_Prefer = Annotated[str | None, Header(max_length=200)]


class PredictionRequest(RequestBody):
    """Body of a new prediction. `version` names the model, unless the path does."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    input: dict[str, Any]
    version: str | None = Field(default=None, max_length=100)


@router.post("/predictions", max_body_size=MAX_JSON_BYTES)
async def create(
    request: Request,
    body: PredictionRequest,
    caller: Writer,
    idempotency_key: IdempotencyKey = None,
    prefer: _Prefer = None,
) -> Response:
    """Draw images with the model that `version` names."""
    return await _create(request, caller, body, body.version, idempotency_key, prefer)


@router.post("/models/{owner}/{name}/predictions", max_body_size=MAX_JSON_BYTES)
async def create_with_model(
    request: Request,
    owner: str,
    name: str,
    body: PredictionRequest,
    caller: Writer,
    idempotency_key: IdempotencyKey = None,
    prefer: _Prefer = None,
) -> Response:
    """Draw images with a model by name; any owner in the path means the caller's models."""
    return await _create(request, caller, body, name, idempotency_key, prefer)


@router.get("/predictions")
def list_all(request: Request, caller: Reader) -> dict[str, Any]:
    """Return the newest 100 predictions, without their images."""
    found, _ = list_jobs(caller, KIND, JobFilter(None, _MAX_LISTED, None, {}))
    results = [_described(job, base_url(request, caller), None) for job in found]
    return {"results": results, "next": None, "previous": None}


@router.get("/predictions/{id}")
async def get(request: Request, caller: Reader, id: JobId) -> dict[str, Any]:
    """Return a prediction, with its images as data URLs once they are drawn."""
    job = await caller.service.status_batcher.find(id, caller.owner, KIND)
    return await run_in_threadpool(_with_images, caller, job, base_url(request, caller))


@router.post("/predictions/{id}/cancel")
def cancel(request: Request, caller: Writer, id: JobId) -> dict[str, Any]:
    """Cancel a prediction."""
    job = change_job(caller, KIND, id, store.cancel)
    return _described(job, base_url(request, caller), None)


async def _create(
    request: Request,
    caller: Caller,
    body: PredictionRequest,
    model: str | None,
    key: str | None,
    prefer: str | None,
) -> Response:
    creation = IdempotentCreate(
        caller, "POST /replicate/v1/predictions", key, hash_request(body.model_dump() | {"model": model}, [])
    )
    trace = request.state.traceparent
    created = await run_in_threadpool(creation.run, lambda: _prepare(caller, body, model, trace))
    job_id = job_id_of(created)
    wait = _WAIT.search(prefer or "")
    wait_s = min(int(wait[1] or _MAX_WAIT_S), _MAX_WAIT_S) if wait else 0
    job = await wait_until_ended(caller.service, caller.owner, job_id, wait_s)
    if job is None:
        job = await caller.service.status_batcher.find(job_id, caller.owner, KIND)
    described = await run_in_threadpool(_with_images, caller, job, base_url(request, caller))
    return JSONResponse(described, 201)


def _prepare(caller: Caller, body: PredictionRequest, name: str | None, trace: str | None) -> Creation:
    with caller.service.database.read() as connection:
        model = find_model(connection, caller, name)
    given = {name: value for name, value in body.input.items() if value is not None}
    if "prompt" not in given:
        raise InvalidInputError.mismatch("input.prompt", got="nothing", expected="a text")
    names = [name for name in given if name not in (*_INPUTS, "width", "height")]
    warnings = [ignored(f"input.{name}") for name in names]
    warnings += [ignored(name) for name in body.model_extra or {}]
    fields = {native: given[name] for name, native in _INPUTS.items() if name in given}
    if "scheduler" in fields and str(fields["scheduler"]) not in SCHEDULERS:
        del fields["scheduler"]
        warnings.append(
            ignored("input.scheduler", "the scheduler is unknown, so that of the base model is used")
        )
    if isinstance(fields.get("prompt"), str):
        fields["prompt"] = model.complete(fields["prompt"])
    if "width" in given or "height" in given:
        sides = [_side_px(given, name) for name in ("width", "height")]
        fields["size"], adjusted = fitted_size(caller.service, model.base_model, *sides)
        warnings += adjusted
    native = native_request(
        GenerationRequest,
        {native: f"input.{name}" for name, native in _INPUTS.items()},
        **({"seed": secrets.randbelow(_MAX_SEED)} | fields),
        base_model=model.base_model,
        metadata={"api": "replicate"},
    )
    return prepare_creation(caller, native, trace, GenerationOptions(tuple(warnings)))


def _side_px(given: dict[str, Any], name: str) -> int:
    side = given.get(name, _DEFAULT_SIDE_PX)
    if not isinstance(side, int) or not 1 <= side <= _MAX_SIDE_PX:
        raise InvalidInputError.mismatch(
            f"input.{name}", got=repr(side), expected=f"a whole number from 1 to {_MAX_SIDE_PX:,}"
        )
    return side


def _with_images(caller: Caller, job: JobSnapshot, url: str) -> dict[str, Any]:
    output = None
    if job.status == Status.SUCCEEDED:
        files = [base64.b64encode(png).decode() for png in read_images(caller, job)]
        output = [f"data:image/png;base64,{file}" for file in files]
    return _described(job, url, output)


def _described(job: JobSnapshot, url: str, output: list[str] | None) -> dict[str, Any]:
    settings = job.request["settings"]
    return {
        **common_fields(job, f"{url}/predictions/{job.id}"),
        "input": {name: settings[native] for name, native in _INPUTS.items()},
        "output": output,
        "metrics": {},
    }
