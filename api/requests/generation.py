"""Generation requests: validation against the base model and the caller's concepts, preparation of the job."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass
from typing import Any

from fastapi import Response
from sqlalchemy import Connection

from api import schemas, serializers
from api.auth import Caller
from api.base_models import BaseModelFacts
from api.idempotent_create import Creation, check_job_quota
from api.requests.bodies import GenerationRequest
from api.requests.cost import estimated_usage, generation_estimate, speed_of
from api.requests.prompts import PreparedPrompts, RequestedPrompts, read_prompts, requested_prompts
from api.service import Service
from api.usage_quotas import check_usage_quota
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.base_models.scheduler_names import check_scheduler
from zoodip_core.config import GenerationSettings
from zoodip_core.errors import InvalidSettingsError
from zoodip_core.input_warnings import InputWarning
from zoodip_core.service.generation_limits import check_generation_limits
from zoodip_core.service.idempotency import StoredResponse
from zoodip_core.service.ids import new_id
from zoodip_core.service.jobs import store
from zoodip_core.service.jobs.records import NewJob
from zoodip_core.service.jobs.snapshots import snapshot
from zoodip_core.service.jobs.states import JobKind
from zoodip_core.service.quotas import Estimate

_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")
_MIN_SIDE_PX, _MAX_SIDE_PX = 8, 4096
_DEFAULT_CELL_PX = 8  # Stable Diffusion's
_DEFAULT_SIDE_PX = 512


@dataclass(frozen=True)
class GenerationOptions:
    """Options of façades, for which the native request has no fields.

    Attributes:
        warnings: warnings that the job shows before those about its prompts.
        partial_images: largest number of estimates of the first image that are stored while it is drawn.
    """

    warnings: tuple[InputWarning, ...] = ()
    partial_images: int = 0


@dataclass(frozen=True)
class _Resolved:
    """Base model and settings of a request. `facts` is None while only workers have the base model's files."""

    entry: BaseModelEntry
    facts: BaseModelFacts | None
    settings: GenerationSettings
    prompts: RequestedPrompts

    @property
    def estimate(self) -> Estimate:
        """Estimated usage of the generation."""
        return generation_estimate(self.settings, len(self.prompts.filled))


def validate_only(caller: Caller, body: GenerationRequest) -> Response:
    """Return the settings, the prompts and the estimated usage of the generation. Creates nothing.

    Raises:
        ZoodipError: The same errors as the creation.
    """
    resolved = _resolve(caller.service, body)
    with caller.service.database.read() as connection:
        check_job_quota(connection, caller)
        check_usage_quota(connection, caller, resolved.estimate)
        prepared = _read_prompts(connection, caller, resolved)
        speed = speed_of(connection, caller.service, resolved.entry.name)
    drawn = [one.settings.prompt for one in prepared.generations]
    return serializers.reply(
        schemas.GenerationValidation(
            base_model=resolved.entry.name,
            settings=prepared.generations[0].settings.model_dump(),
            prompts=drawn,
            warnings=[serializers.warning(found) for found in prepared.warnings],
            estimated_usage=estimated_usage(resolved.estimate, speed, _area(resolved)),
        )
    )


def prepare_creation(
    caller: Caller,
    body: GenerationRequest,
    trace: str | None,
    options: GenerationOptions = GenerationOptions(),
) -> Creation:
    """Validate the request and return the creation of its job.

    Args:
        caller: whose concepts the prompt can use.
        body: the request.
        trace: `traceparent` of the request.
        options: what the native request has no fields for.

    Raises:
        ZoodipError: The request is not valid.
    """
    resolved = _resolve(caller.service, body)
    job_id = new_id("gen")

    def insert_row(connection: Connection) -> StoredResponse:
        check_job_quota(connection, caller)
        check_usage_quota(connection, caller, resolved.estimate)
        new = _new_job(job_id, caller, body, trace, resolved, options, connection)
        job = store.add(connection, new, time.time())
        response = serializers.generation(snapshot(connection, job), caller.service.settings.public_url)
        return StoredResponse(
            status_code=202,
            headers={"Location": f"/v1/generations/{job.id}"},
            body=response.model_dump(mode="json"),
        )

    return Creation(
        insert_row=insert_row,
        row_exists=lambda connection: store.exists(connection, job_id),
        after_commit=lambda _: caller.service.wake(JobKind.GENERATION, job_id),
    )


def _new_job(
    job_id: str,
    caller: Caller,
    body: GenerationRequest,
    trace: str | None,
    resolved: _Resolved,
    options: GenerationOptions,
    connection: Connection,
) -> NewJob:
    prepared = _read_prompts(connection, caller, resolved)
    settings = prepared.generations[0].settings
    of_set: dict[str, Any] = {"prompts": _set(resolved, prepared)} if resolved.prompts.is_set else {}
    return NewJob(
        id=job_id,
        kind=JobKind.GENERATION,
        owner=caller.owner,
        base_model=resolved.entry.name,
        total_steps=settings.steps,
        metadata=body.metadata,
        trace=trace,
        key_id=caller.key_id,
        estimated_evaluations=resolved.estimate.evaluations,
        estimated_images=resolved.estimate.images,
        request={
            "settings": settings.model_dump(),
            "concepts": dict(prepared.ids),
            "warnings": [asdict(warning) for warning in (*options.warnings, *prepared.warnings)],
            "partial_images": options.partial_images,
            **of_set,
        },
    )


def _set(resolved: _Resolved, prepared: PreparedPrompts) -> list[dict[str, Any]]:
    """Return the prompts of a set as its job stores them."""
    return [
        {"template": one.template, "concept": one.concept, "text": drawn.settings.prompt}
        for one, drawn in zip(resolved.prompts.filled, prepared.generations, strict=True)
    ]


def _read_prompts(connection: Connection, caller: Caller, resolved: _Resolved) -> PreparedPrompts:
    entry, facts = resolved.entry, resolved.facts
    return read_prompts(connection, caller.owner, entry.name, facts, resolved.settings, resolved.prompts)


def _area(resolved: _Resolved) -> float:
    """Return the area of an image; 1 is that of the base model's training images."""
    if resolved.facts is None:
        return 1.0
    side_px = resolved.facts.side_px
    return (resolved.settings.width or side_px) * (resolved.settings.height or side_px) / side_px**2


def _resolve(service: Service, body: GenerationRequest) -> _Resolved:
    """Validate everything that does not depend on the caller's concepts."""
    entry, facts = service.base_models.facts(body.base_model)
    check_scheduler(body.scheduler)
    names = GenerationSettings.model_fields.keys() & GenerationRequest.model_fields.keys()
    given = {name: getattr(body, name) for name in names if getattr(body, name) is not None}
    prompts = requested_prompts(body)
    given["prompt"] = prompts.filled[0].text
    settings = GenerationSettings.parse({**entry.generation, **given, **_sides(body.size, facts)})
    complete = service.base_models.complete_facts(entry.name)  # without files, the worker checks the size
    side_px = None if complete is None else complete.side_px
    check_generation_limits(settings, side_px, service.settings, prompts=len(prompts.filled))
    return _Resolved(entry, facts, settings, prompts)


def _sides(size: str | None, facts: BaseModelFacts | None) -> dict[str, int]:
    """Return width and height of a size such as `64x64`.

    Raises:
        InvalidSettingsError: The size is malformed, or the base model cannot draw it.
    """
    if size is None:
        return {}
    cell = _DEFAULT_CELL_PX if facts is None else facts.latent_cell_px
    example = _DEFAULT_SIDE_PX if facts is None else facts.side_px
    match = _SIZE.fullmatch(size)
    sides = [int(side) for side in match.groups()] if match else []
    if not sides or any(not _MIN_SIDE_PX <= side <= _MAX_SIDE_PX or side % cell for side in sides):
        raise InvalidSettingsError.mismatch(
            "size",
            got=repr(size),
            expected=(
                f"WIDTHxHEIGHT, such as {example}x{example}: each side from {_MIN_SIDE_PX} to {_MAX_SIDE_PX} px "
                f"and a multiple of {cell}"
            ),
        )
    return dict(zip(("width", "height"), sides, strict=True))
