"""Generation requests: validation against the base model and the caller's concepts, preparation of the job."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass

from sqlalchemy import Connection

from api import serializers
from api.auth import Caller
from api.base_models import BaseModelFacts
from api.idempotent_create import Creation, check_job_quota
from api.requests.bodies import GenerationRequest
from api.requests.cost import generation_estimate
from api.service import Service
from api.usage_quotas import check_usage_quota
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.base_models.scheduler_names import check_scheduler
from zoodip_core.config import GenerationSettings
from zoodip_core.errors import InvalidSettingsError, UnknownTokenError
from zoodip_core.generation_prompts import PreparedGeneration, prepare_prompts
from zoodip_core.input_warnings import InputWarning
from zoodip_core.prompt_tokens import candidate_tokens
from zoodip_core.service import concepts
from zoodip_core.service.concepts import ConceptRecord
from zoodip_core.service.generation_limits import check_generation_limits
from zoodip_core.service.idempotency import StoredResponse
from zoodip_core.service.ids import new_id
from zoodip_core.service.jobs import store
from zoodip_core.service.jobs.records import NewJob
from zoodip_core.service.jobs.snapshots import snapshot
from zoodip_core.service.jobs.states import JobKind

_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")
_MIN_SIDE_PX, _MAX_SIDE_PX = 8, 4096
_DEFAULT_CELL_PX = 8  # Stable Diffusion's
_DEFAULT_SIDE_PX = 512
_MAX_SUGGESTED = 1000  # newest concepts of an owner that an unknown token is compared with


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
        check_usage_quota(connection, caller, generation_estimate(resolved.settings))
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
    found = _find_concepts(connection, caller.owner, resolved.entry.name, resolved.settings)
    prepared = _prepare_prompts(connection, caller.owner, resolved, found)
    estimate = generation_estimate(prepared.settings)
    return NewJob(
        id=job_id,
        kind=JobKind.GENERATION,
        owner=caller.owner,
        base_model=resolved.entry.name,
        total_steps=prepared.settings.steps,
        metadata=body.metadata,
        trace=trace,
        key_id=caller.key_id,
        estimated_evaluations=estimate.evaluations,
        estimated_images=estimate.images,
        request={
            "settings": prepared.settings.model_dump(),
            "concepts": {token: found[token].id for token in prepared.tokens},
            "warnings": [asdict(warning) for warning in (*options.warnings, *prepared.warnings)],
            "partial_images": options.partial_images,
        },
    )


def _resolve(service: Service, body: GenerationRequest) -> _Resolved:
    """Validate everything that does not depend on the caller's concepts."""
    entry, facts = service.base_models.facts(body.base_model)
    check_scheduler(body.scheduler)
    names = GenerationSettings.model_fields.keys() & GenerationRequest.model_fields.keys()
    given = {name: getattr(body, name) for name in names if getattr(body, name) is not None}
    settings = GenerationSettings.parse({**entry.generation, **given, **_sides(body.size, facts)})
    complete = service.base_models.complete_facts(entry.name)  # without files, the worker checks the size
    check_generation_limits(settings, None if complete is None else complete.side_px, service.settings)
    return _Resolved(entry, facts, settings)


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


def _find_concepts(
    connection: Connection, owner: str, base_model: str, settings: GenerationSettings
) -> dict[str, ConceptRecord]:
    """Return the owner's concepts that the prompts can mean, by token."""
    tokens = candidate_tokens(settings.prompt) | candidate_tokens(settings.negative_prompt)
    return concepts.find_by_tokens(connection, owner, base_model, tokens) if tokens else {}


def _prepare_prompts(
    connection: Connection, owner: str, resolved: _Resolved, found: dict[str, ConceptRecord]
) -> PreparedGeneration:
    """Read the prompts with the concepts that they can mean.

    Raises:
        UnknownTokenError: A token has no concept. The message names similar tokens of the owner.
        InvalidCaptionError: A learned token lies beyond the window of the base model.
    """
    base_model = resolved.entry.name
    windows = None if resolved.facts is None else resolved.facts.text_windows
    expected = f"a token of your concepts on {base_model}"
    vectors = {token: record.vectors for token, record in found.items()}
    try:
        return prepare_prompts(resolved.settings, vectors, windows, expected=expected)
    except UnknownTokenError:
        page, _ = concepts.list_page(connection, owner, limit=_MAX_SUGGESTED)
        vectors |= {record.token: record.vectors for record in page if record.base_model == base_model}
        return prepare_prompts(resolved.settings, vectors, windows, expected=expected)
