"""What a client wants learned, checked against the base model and the caller's names."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from fastapi import Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from sqlalchemy import Connection

from api import schemas, serializers
from api.auth import Caller
from api.base_models import BaseModelFacts
from api.idempotent_create import Creation, check_names, check_room
from api.requests.reference_images import decode_all, drop_all
from api.requests.uploads import Upload, UploadedFile
from api.requests.webhook_url import check_webhook
from api.service import Service
from zoodip_core.base_models.catalog import BaseModelEntry, resolve_settings
from zoodip_core.base_models.vocabulary import check_initializer, check_token, check_token_format
from zoodip_core.config import PersonalizationSettings
from zoodip_core.errors import InvalidSettingsError
from zoodip_core.personalization.captions import check_captions
from zoodip_core.service import concepts, worker_registry
from zoodip_core.service.idempotency import StoredResponse
from zoodip_core.service.ids import new_id
from zoodip_core.service.jobs import store
from zoodip_core.service.jobs.records import NewJob
from zoodip_core.service.jobs.snapshots import snapshot
from zoodip_core.service.jobs.states import JobKind

MAX_CHECKPOINT_EVERY = 100  # steps: what a crash may cost


@dataclass(frozen=True)
class PersonalizationSubmission:
    """A parsed request for a personalization."""

    wanted: schemas.PersonalizationRequest
    files: list[UploadedFile]
    trace: str | None


@dataclass(frozen=True)
class _Resolved:
    """The same with everything decided."""

    entry: BaseModelEntry
    facts: BaseModelFacts | None
    settings: PersonalizationSettings


def parse_request(upload: Upload) -> schemas.PersonalizationRequest:
    """The `request` field.

    Raises:
        RequestValidationError: it is missing, no JSON, or not as the schema says.
    """
    try:
        return schemas.PersonalizationRequest.model_validate(json.loads(upload.fields["request"]))
    except KeyError as error:
        missing = {"type": "missing", "loc": ("body", "request"), "msg": "Field required"}
        raise RequestValidationError([missing]) from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, ValidationError):
            found = error.errors(include_url=False, include_context=False, include_input=False)
            raise RequestValidationError(
                [{**item, "loc": ("body", *item["loc"])} for item in found]
            ) from error
        broken = {"type": "json_in_field", "loc": ("body", "request"), "msg": "This field is not JSON"}
        raise RequestValidationError([broken]) from error


def validation(caller: Caller, submission: PersonalizationSubmission) -> Response:
    """What would run, and what it would take; creates nothing.

    Raises:
        ZoodipError: what creating it would raise.
    """
    resolved = _resolve(caller.service, submission)
    warnings = _decode(caller.service, submission, resolved)
    with caller.service.database.read() as connection:
        _check_name(connection, caller, submission, resolved)
        workers = worker_registry.consuming(connection, time.time(), caller.service.settings.lease_s)
    speeds = [worker.stats.get("rows_per_s", {}).get(resolved.entry.name) for worker in workers]
    rows = resolved.settings.evaluations
    known = [speed for speed in speeds if speed]
    body = schemas.Validation(
        token=submission.wanted.token,
        base_model=resolved.entry.name,
        settings=resolved.settings.model_dump(),
        images=len(submission.files),
        warnings=warnings,
        estimated_seconds=round(rows / max(known), 1) if known else None,
        estimated_memory_mb=None if resolved.facts is None else round(resolved.facts.weights_mb, 1),
    )
    return serializers.reply(body)


def prepare_creation(caller: Caller, submission: PersonalizationSubmission) -> Creation:
    """Checks all, stores the photos; what it returns makes the row.

    Raises:
        ZoodipError: what is wrong with the request; nothing is left then.
    """
    resolved = _resolve(caller.service, submission)
    with caller.service.database.read() as connection:
        _check_name(connection, caller, submission, resolved)
    job_id = new_id("per")
    warnings = _decode(caller.service, submission, resolved, store_for=job_id)
    new = _new_job(job_id, caller, submission, resolved, warnings)

    def insert_row(connection: Connection) -> StoredResponse:
        _check_name(connection, caller, submission, resolved)  # again, now that no other can come between
        job = store.add(connection, new, time.time())
        body = serializers.personalization(snapshot(connection, job)).model_dump(mode="json")
        return StoredResponse(
            status_code=202, headers={"Location": f"/v1/personalizations/{job.id}"}, body=body
        )

    return Creation(
        insert_row=insert_row,
        row_exists=lambda connection: store.exists(connection, new.id),
        discard_objects=lambda: drop_all(caller.service, new.id),
        after_commit=lambda answer: caller.service.wake(new.kind, new.id),
    )


def _new_job(
    job_id: str,
    caller: Caller,
    submission: PersonalizationSubmission,
    resolved: _Resolved,
    warnings: list[str],
) -> NewJob:
    wanted = submission.wanted
    return NewJob(
        id=job_id,
        kind=JobKind.PERSONALIZATION,
        owner=caller.owner,
        base_model=resolved.entry.name,
        token=wanted.token,
        total_steps=resolved.settings.steps,
        metadata=wanted.metadata,
        webhook=wanted.webhook,
        trace=submission.trace,
        request={
            "initializer": wanted.initializer,
            "kind": wanted.kind,
            "captions": wanted.captions,
            "settings": resolved.settings.model_dump(),
            "replace": wanted.replace,
            "images": len(submission.files),
            "warnings": warnings,
        },
    )


def _resolve(service: Service, submission: PersonalizationSubmission) -> _Resolved:
    wanted = submission.wanted
    entry, facts = service.base_models.facts(wanted.base_model)
    overrides = dict(wanted.settings)
    preset = overrides.pop("preset", "default")
    if not isinstance(preset, str):
        raise InvalidSettingsError(f"settings.preset = {preset!r} is no text", field="settings.preset")
    family = entry.family if facts is None else facts.family
    assert family is not None, "the catalogue asks for it wherever there may be no files"
    settings = resolve_settings(entry, family, preset, overrides)
    _check_settings(settings, facts)
    check_token_format(wanted.token)
    if facts is not None:
        check_token(wanted.token, facts.vocabulary)
        check_initializer(wanted.initializer, facts.vocabulary)
    if wanted.captions is not None:
        check_captions(wanted.captions, images=len(submission.files), token=wanted.token)
    return _Resolved(entry, facts, settings)


def _check_settings(settings: PersonalizationSettings, facts: BaseModelFacts | None) -> None:
    """What the command line may do and a service must not, or what the base model cannot do."""
    if settings.checkpoint_every > MAX_CHECKPOINT_EVERY:
        raise InvalidSettingsError(
            f"settings.checkpoint_every = {settings.checkpoint_every}; allowed: up to {MAX_CHECKPOINT_EVERY}",
            field="settings.checkpoint_every",
        )
    if facts is not None and settings.t_high > facts.timesteps:
        raise InvalidSettingsError(
            f"settings.t_high = {settings.t_high}; allowed: up to {facts.timesteps}", field="settings.t_high"
        )


def _check_name(
    connection: Connection, caller: Caller, submission: PersonalizationSubmission, resolved: _Resolved
) -> None:
    wanted = submission.wanted
    check_webhook(connection, caller, wanted.webhook)
    check_room(connection, caller)
    check_names(connection, caller, resolved.entry.name, wanted.token)
    if not wanted.replace:
        concepts.check_token_available(connection, caller.owner, resolved.entry.name, wanted.token)


def _decode(
    service: Service,
    submission: PersonalizationSubmission,
    resolved: _Resolved,
    *,
    store_for: str | None = None,
) -> list[str]:
    side_px = None if resolved.facts is None else resolved.facts.side_px
    return decode_all(service, submission.files, side_px, store_for=store_for)
