"""Resolution of a personalization request: base model, settings, captions and estimated cost."""

from __future__ import annotations

from dataclasses import dataclass

from api.base_models import BaseModelFacts
from api.requests.bodies import PersonalizationRequest
from api.requests.caption_texts import captions_of_request
from api.requests.cost import personalization_estimate
from api.requests.reference_files import ReferenceFile
from api.service import Service
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.base_models.presets import resolve_settings
from zoodip_core.base_models.vocabulary import check_token_format
from zoodip_core.config import PersonalizationSettings
from zoodip_core.errors import InvalidSettingsError
from zoodip_core.input_warnings import InputWarning
from zoodip_core.personalization.captions import read_captions
from zoodip_core.personalization.subject import Subject, resolve_subject
from zoodip_core.service.quotas import Estimate

MAX_CHECKPOINT_EVERY = 100  # steps: limit of the work that a crash can lose


@dataclass(frozen=True)
class PersonalizationSubmission:
    """A parsed request for a personalization: fields, images, `traceparent` of the trace.

    `warnings` come before those about the images and captions.
    """

    request: PersonalizationRequest
    files: list[ReferenceFile]
    trace: str | None
    warnings: tuple[InputWarning, ...] = ()


@dataclass(frozen=True)
class ResolvedPersonalization:
    """Resolved submission: base model, settings, estimate, captions as they are read, and warnings about them.

    `facts` is None while only workers have the files of the base model.
    """

    entry: BaseModelEntry
    facts: BaseModelFacts | None
    settings: PersonalizationSettings
    estimate: Estimate
    captions: tuple[str, ...] | None
    warnings: list[InputWarning]


def resolve(service: Service, submission: PersonalizationSubmission) -> ResolvedPersonalization:
    """Validate all of a submission but its images and quotas.

    Raises:
        ZoodipError: The request is not valid.
    """
    request = submission.request
    entry, facts = service.base_models.facts(request.base_model)
    overrides = dict(request.settings)
    preset = overrides.pop("preset", "default")
    if not isinstance(preset, str):
        raise InvalidSettingsError.mismatch(
            "settings.preset", got=repr(preset), expected="the name of a preset"
        )
    family = entry.family if facts is None else facts.family
    assert family is not None, "the catalog requires a family for entries that may have no files"
    settings = resolve_settings(entry, family, preset, overrides)
    _check_settings(settings, facts)
    check_token_format(request.token)
    captions, warnings = _read_captions(submission, entry, facts, vectors=settings.vectors)
    estimate = personalization_estimate(settings, entry, service.settings.preview_every)
    return ResolvedPersonalization(
        entry, facts, settings, estimate, captions, [*submission.warnings, *warnings]
    )


def _read_captions(
    submission: PersonalizationSubmission,
    entry: BaseModelEntry,
    facts: BaseModelFacts | None,
    *,
    vectors: int,
) -> tuple[tuple[str, ...] | None, list[InputWarning]]:
    """Validate the subject of a submission; return its captions as they are read, and warnings about them."""
    request, images = submission.request, len(submission.files)
    templates = entry.templates.get(request.kind)
    captions, warnings = captions_of_request(request, submission.files, templates)
    if facts is not None:
        subject, others = resolve_subject(
            Subject(request.token, request.initializer, request.kind, captions),
            facts.folder,
            images=images,
            vectors=vectors,
            templates=templates,
        )
        return subject.captions, warnings + others
    if captions is None:
        return None, warnings
    captions, others = read_captions(captions, images=images, token=request.token)
    return captions, warnings + others


def _check_settings(settings: PersonalizationSettings, facts: BaseModelFacts | None) -> None:
    """Validate settings that the service limits more than the command does, or that depend on the base model.

    Raises:
        InvalidSettingsError: `checkpoint_every` or `t_high` is too large.
    """
    if settings.checkpoint_every > MAX_CHECKPOINT_EVERY:
        raise InvalidSettingsError.mismatch(
            "settings.checkpoint_every",
            got=settings.checkpoint_every,
            expected=f"at most {MAX_CHECKPOINT_EVERY} in the service",
        )
    if facts is not None and settings.t_high > facts.timesteps:
        raise InvalidSettingsError.mismatch(
            "settings.t_high", got=settings.t_high, expected=f"at most {facts.timesteps} for this base model"
        )
