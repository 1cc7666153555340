"""Personalization requests: validation against the base model, cost estimate, preparation of the job."""

from __future__ import annotations

import time
from dataclasses import asdict, replace

from fastapi import Response
from sqlalchemy import Connection

from api import schemas, serializers
from api.auth import Caller
from api.decoding.decoder import Decoder
from api.idempotent_create import Creation, check_concept_quota, check_job_quota
from api.requests.cost import estimated_usage, speed_of
from api.requests.reference_images import decode_images, delete_images, read_crops
from api.requests.resolved_personalization import PersonalizationSubmission, ResolvedPersonalization, resolve
from api.requests.webhook_url import check_webhook
from api.service import Service
from api.usage_quotas import check_usage_quota
from zoodip_core.input_warnings import InputWarning
from zoodip_core.service import concepts, stored_objects
from zoodip_core.service.idempotency import StoredResponse
from zoodip_core.service.ids import new_id
from zoodip_core.service.jobs import store
from zoodip_core.service.jobs.records import NewJob
from zoodip_core.service.jobs.snapshots import snapshot
from zoodip_core.service.jobs.states import JobKind


def check(caller: Caller, submission: PersonalizationSubmission) -> None:
    """Validate all of a submission but its images, which are not read.

    Raises:
        ZoodipError: The request is not valid, or a quota is exhausted.
    """
    resolved = resolve(caller.service, submission)
    with caller.service.database.read() as connection:
        _check_creatable(connection, caller, submission, resolved)


def validate_only(caller: Caller, submission: PersonalizationSubmission, decoder: Decoder) -> Response:
    """Return the settings and the estimated cost of the personalization. Creates nothing.

    Raises:
        ZoodipError: The same errors as the creation.
    """
    resolved = resolve(caller.service, submission)
    image_warnings, _ = _decode_images(caller.service, submission, resolved, decoder)
    with caller.service.database.read() as connection:
        _check_creatable(connection, caller, submission, resolved)
        queued = store.count_queued(connection, JobKind.PERSONALIZATION)
        speed = speed_of(connection, caller.service, resolved.entry.name)
    rows = resolved.settings.evaluations
    body = schemas.Validation(
        token=submission.request.token,
        base_model=resolved.entry.name,
        settings=resolved.settings.model_dump(),
        images=len(submission.files),
        warnings=[serializers.warning(found) for found in [*resolved.warnings, *image_warnings]],
        evaluations=rows,
        queue_position=queued,
        estimated_seconds=round(rows / speed, 1) if speed else None,
        estimated_memory_mb=None if resolved.facts is None else round(resolved.facts.weights_mb, 1),
        estimated_usage=estimated_usage(resolved.estimate, speed),
    )
    return serializers.reply(body)


def prepare_creation(caller: Caller, submission: PersonalizationSubmission, decoder: Decoder) -> Creation:
    """Validate the submission, store its images, and return the creation of its job.

    Raises:
        ZoodipError: The request is not valid. No image stays stored.
    """
    resolved = resolve(caller.service, submission)
    with caller.service.database.read() as connection:
        _check_creatable(connection, caller, submission, resolved)
    job_id = new_id("per")
    image_warnings, sizes = _decode_images(caller.service, submission, resolved, decoder, store_for=job_id)
    new = _new_job(job_id, caller, submission, resolved, [*resolved.warnings, *image_warnings])

    def insert_row(connection: Connection) -> StoredResponse:
        new_bytes = sum(sizes.values())
        _check_creatable(connection, caller, submission, resolved, new_bytes)  # again under the creation lock
        job = store.add(connection, new, time.time())
        stored_objects.add(connection, new.owner, new.key_id, sizes)
        body = serializers.personalization(snapshot(connection, job)).model_dump(mode="json")
        return StoredResponse(
            status_code=202, headers={"Location": f"/v1/personalizations/{job.id}"}, body=body
        )

    return Creation(
        insert_row=insert_row,
        row_exists=lambda connection: store.exists(connection, new.id),
        discard_objects=lambda: delete_images(caller.service, new.id),
        after_commit=lambda _: caller.service.wake(new.kind, new.id),
    )


def _new_job(
    job_id: str,
    caller: Caller,
    submission: PersonalizationSubmission,
    resolved: ResolvedPersonalization,
    warnings: list[InputWarning],
) -> NewJob:
    request = submission.request
    return NewJob(
        id=job_id,
        kind=JobKind.PERSONALIZATION,
        owner=caller.owner,
        base_model=resolved.entry.name,
        token=request.token,
        total_steps=resolved.settings.steps,
        metadata=request.metadata,
        webhook=request.webhook,
        trace=submission.trace,
        key_id=caller.key_id,
        estimated_evaluations=resolved.estimate.evaluations,
        request={
            "initializer": request.initializer,
            "kind": request.kind,
            "captions": None if resolved.captions is None else list(resolved.captions),
            "settings": resolved.settings.model_dump(),
            "replace": request.replace,
            "images": len(submission.files),
            "warnings": [asdict(found) for found in warnings],
        },
    )


def _check_creatable(
    connection: Connection,
    caller: Caller,
    submission: PersonalizationSubmission,
    resolved: ResolvedPersonalization,
    new_bytes: int = 0,
) -> None:
    request = submission.request
    check_webhook(connection, caller, request.webhook)
    check_job_quota(connection, caller)
    check_usage_quota(connection, caller, replace(resolved.estimate, stored_bytes=new_bytes))
    check_concept_quota(connection, caller, resolved.entry.name, request.token)
    if not request.replace:
        concepts.check_token_available(connection, caller.owner, resolved.entry.name, request.token)


def _decode_images(
    service: Service,
    submission: PersonalizationSubmission,
    resolved: ResolvedPersonalization,
    decoder: Decoder,
    *,
    store_for: str | None = None,
) -> tuple[list[InputWarning], dict[str, int]]:
    side_px = None if resolved.facts is None else resolved.facts.side_px
    crops = read_crops(submission.request.crop, len(submission.files))
    return decode_images(
        service, decoder, submission.files, crops, side_px, resolved.settings, store_for=store_for
    )
