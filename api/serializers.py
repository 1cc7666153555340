"""Conversion of database records to response bodies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from fastapi import Response
from pydantic import BaseModel

from api import schemas
from api.requests.bodies import CropSquare
from zoodip_core.errors import ContentFilteredError
from zoodip_core.images import Crop, ImageFileFacts, center_square
from zoodip_core.input_warnings import InputWarning
from zoodip_core.service.concepts import ConceptRecord
from zoodip_core.service.jobs.records import JobSnapshot

_FILTERED = ContentFilteredError()
_CONTENT_FILTERED = schemas.JobError(
    code=_FILTERED.code, message=_FILTERED.message, retryable=_FILTERED.retryable
)


def reply(body: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return the model as a JSON response."""
    return Response(body.model_dump_json(), status, headers, media_type="application/json")


def timestamp(seconds: float | None) -> str | None:
    """Convert Unix seconds to ISO 8601 in UTC with milliseconds; None stays None."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def personalization(job: JobSnapshot) -> schemas.Personalization:
    """Convert a personalization job to its response body."""
    return schemas.Personalization(
        **_common(job),
        token=job.token or "",
        initializer=job.request["initializer"],
        kind=job.request["kind"],
        settings=job.request["settings"],
        fixed_loss=job.fixed_loss,
        checkpoints=job.checkpoints,
        result=job.result,
    )


def generation(job: JobSnapshot, public_url: str) -> schemas.Generation:
    """Convert a generation job to its response body.

    Args:
        job: the job.
        public_url: base URL of the service for the links to images; may be empty.
    """
    prompts = prompts_of(job)
    images = [
        (index, schemas.GeneratedImage(url=url, seed=seed, prompt=prompts[index]["text"]))
        for k, (index, seed) in enumerate(drawn_images(job))
        for url in [f"{public_url}/v1/generations/{job.id}/images/{k}.png"]
    ]
    groups = [
        schemas.PromptGroup(
            template=one["template"],
            concept=one["concept"],
            prompt=one["text"],
            images=[image for index, image in images if index == number],
        )
        for number, one in enumerate(prompts)
    ]
    withheld = [
        schemas.WithheldImage(seed=seed, error=_CONTENT_FILTERED)
        for seed in (job.result or {}).get("withheld", [])
    ]
    return schemas.Generation(
        **_common(job),
        prompt=job.request["settings"]["prompt"],
        settings=job.request["settings"],
        images=[image for _, image in images],
        groups=groups if "prompts" in job.request else None,
        withheld=withheld,
        result=job.result,
    )


def prompts_of(job: JobSnapshot) -> list[dict[str, Any]]:
    """Return `template`, `concept` and `text` of each prompt of a generation."""
    prompt = job.request["settings"]["prompt"]
    single = {"template": prompt, "concept": None, "text": prompt}
    prompts: list[dict[str, Any]] = job.request.get("prompts", [single])
    return prompts


def drawn_images(job: JobSnapshot) -> list[tuple[int, int]]:
    """Return the index of the prompt and the seed of each drawn image."""
    result = job.result or {}
    seeds = result.get("seeds", [])
    return list(zip(result.get("prompt_indices", [0] * len(seeds)), seeds, strict=True))


def concept(record: ConceptRecord) -> schemas.Concept:
    """Convert a concept to its response body."""
    return schemas.Concept(
        id=record.id,
        token=record.token,
        kind=record.kind,  # type: ignore[arg-type]  # checked by pydantic
        base_model=record.base_model,
        fingerprint=record.fingerprint,
        precision=record.precision,
        vectors=record.vectors,
        created_at=timestamp(record.created_at) or "",
        from_personalization=record.from_personalization,
    )


def imported_concept(record: ConceptRecord, warnings: Iterable[InputWarning]) -> schemas.ImportedConcept:
    """Convert an imported concept to its response body."""
    return schemas.ImportedConcept(
        **concept(record).model_dump(), warnings=[warning(found) for found in warnings]
    )


def inspected_image(
    file: ImageFileFacts, crop: Crop | None, warnings: Iterable[InputWarning]
) -> schemas.InspectedImage:
    """Convert the facts and warnings of an uploaded image to its part of the response body."""
    square = crop or Crop(*center_square(file.width, file.height))
    return schemas.InspectedImage(
        width=file.width,
        height=file.height,
        format=file.format,
        crop=CropSquare(**asdict(square)),
        warnings=[warning(found) for found in warnings],
    )


def warning(found: InputWarning) -> schemas.InputWarning:
    """Convert a warning to its response body."""
    return schemas.InputWarning(code=found.code, field=found.field, message=found.message)


def _common(job: JobSnapshot) -> dict[str, Any]:
    return {
        "id": job.id,
        "status": job.status,
        "base_model": job.base_model,
        "step": job.step,
        "total_steps": job.total_steps,
        "it_per_s": job.it_per_s,
        "eta_s": job.eta_s,
        "queue_position": job.queue_position,
        "error": job.error,
        "created_at": timestamp(job.created_at),
        "started_at": timestamp(job.started_at),
        "finished_at": timestamp(job.finished_at),
        "metadata": job.metadata,
        "warnings": [warning for warning in job.request.get("warnings", []) if isinstance(warning, dict)],
    }
