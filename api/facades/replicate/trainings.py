"""Trainings of Replicate's API: personalizations from an uploaded training file."""

from __future__ import annotations

from typing import Any, ClassVar

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import ConfigDict, Field

from api.auth import Reader, Writer
from api.facades.ignored_fields import ignored
from api.facades.learning import Training, learn
from api.facades.native_request import native_request
from api.facades.replicate.common import PREFIX, JobId, base_url, common_fields
from api.idempotent_create import IdempotencyKey
from api.middleware import MAX_JSON_BYTES
from api.owned_jobs import change_job, list_jobs
from api.requests.bodies import PersonalizationRequest, RequestBody
from api.requests.parameters import JobFilter
from zoodip_core.prompt_tokens import token_of_file_name
from zoodip_core.service.jobs import store
from zoodip_core.service.jobs.records import JobSnapshot
from zoodip_core.service.jobs.states import JobKind

router = APIRouter(prefix=PREFIX, include_in_schema=False)
KIND = JobKind.PERSONALIZATION

_DESTINATION = "destination"
_MAX_LISTED = 100


class TrainingInput(RequestBody):
    """Input of a training. Other inputs are accepted and listed in the warnings."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    input_images: str = Field(max_length=2000)
    initializer: str = Field(max_length=100)
    token: str | None = Field(default=None, max_length=100)
    kind: str = "object"
    seed: int | None = None
    steps: int | None = None


class TrainingRequest(RequestBody):
    """Body of a new training."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    input: TrainingInput
    destination: str = Field(max_length=200)
    webhook: str | None = Field(default=None, max_length=2000)


@router.post("/models/{owner}/{name}/versions/{version}/trainings", max_body_size=MAX_JSON_BYTES)
async def create(
    request: Request,
    owner: str,
    name: str,
    version: str,
    body: TrainingRequest,
    caller: Writer,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Learn a concept on the base model `name`; owner and version in the path have no meaning."""
    names = [*(f"input.{name}" for name in body.input.model_extra or {}), *(body.model_extra or {})]
    training = Training(
        route="POST /replicate/v1/trainings",
        key=idempotency_key,
        body=body.model_dump() | {"model": name},
        file_id=body.input.input_images.rpartition("/")[2],
        translate=lambda: _translated(body, name),
        warnings=tuple(ignored(name) for name in names),
    )
    job_id = await learn(request, caller, training)
    job = await caller.service.status_batcher.find(job_id, caller.owner, KIND)
    return JSONResponse(_described(job, base_url(request, caller)), 201)


@router.get("/trainings")
def list_all(request: Request, caller: Reader) -> dict[str, Any]:
    """Return the newest 100 trainings."""
    found, _ = list_jobs(caller, KIND, JobFilter(None, _MAX_LISTED, None, {}))
    url = base_url(request, caller)
    return {"results": [_described(job, url) for job in found], "next": None, "previous": None}


@router.get("/trainings/{id}")
async def get(request: Request, caller: Reader, id: JobId) -> dict[str, Any]:
    """Return a training."""
    job = await caller.service.status_batcher.find(id, caller.owner, KIND)
    return _described(job, base_url(request, caller))


@router.post("/trainings/{id}/cancel")
async def cancel(request: Request, caller: Writer, id: JobId) -> dict[str, Any]:
    """Cancel a training."""
    job = await run_in_threadpool(change_job, caller, KIND, id, store.cancel)
    return _described(job, base_url(request, caller))


def _translated(body: TrainingRequest, name: str) -> PersonalizationRequest:
    """Return the native request. The token is that of the input, or the name of the destination."""
    given = body.input
    settings = {"seed": given.seed, "steps": given.steps}
    return native_request(
        PersonalizationRequest,
        token=given.token or token_of_file_name(body.destination.rpartition("/")[2]) or body.destination,
        initializer=given.initializer,
        kind=given.kind,
        base_model=name,
        settings={name: value for name, value in settings.items() if value is not None},
        metadata={"api": "replicate", _DESTINATION: body.destination},
        webhook=body.webhook,
    )


def _described(job: JobSnapshot, url: str) -> dict[str, Any]:
    concept_id = (job.result or {}).get("concept_id")
    name = (job.token or "").strip("<>")
    return {
        **common_fields(job, f"{url}/trainings/{job.id}"),
        "destination": job.metadata.get(_DESTINATION),
        "input": {"initializer": job.request["initializer"], "token": job.token, "kind": job.request["kind"]},
        "output": concept_id and {"version": f"zoodip/{name}:{concept_id}"},
    }
