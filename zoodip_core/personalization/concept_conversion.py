"""Converts concepts to the vectors that `generate` accepts, and finished searches to concepts."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import torch

from zoodip_core import __version__
from zoodip_core.artifact import ENCODERS, Concept
from zoodip_core.compatibility import check_compatible
from zoodip_core.concept_header import Provenance
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.diffusion.prompts import ConceptVectors
from zoodip_core.errors import InvalidInputError
from zoodip_core.input_warnings import InputWarning
from zoodip_core.personalization.personalize import Personalization

_VERSIONED = ("torch", "diffusers", "transformers", "bitsandbytes")


def concept_vectors(
    concepts: Sequence[Concept], bundle: Bundle, *, mismatch_allowed: Collection[str] = ()
) -> ConceptVectors:
    """Return token → vectors for the concepts, after checking that they match the base model.

    Args:
        concepts: concepts with different tokens.
        bundle: the base model.
        mismatch_allowed: tokens of concepts that may have been learned on other weights of the same widths.

    Raises:
        ModelMismatchError: a concept belongs to another base model, or has other embedding widths.
        InvalidInputError: two concepts have the same token.
    """
    vectors: dict[str, list[torch.Tensor]] = {}
    for concept in concepts:
        _check(concept, bundle, allow_mismatch=concept.token in mismatch_allowed)
        if concept.token in vectors:
            raise InvalidInputError.mismatch(
                "concept", got=f"{concept.token} twice", expected="each token once"
            )
        vectors[concept.token] = [torch.from_numpy(part.copy()) for part in concept.embeddings.values()]
    return vectors


def mismatch_warnings(concepts: Sequence[Concept], bundle: Bundle) -> list[InputWarning]:
    """Return a warning for each concept that was learned on other weights than those of the base model.

    Raises:
        ModelMismatchError: a concept has other embedding widths.
    """
    checked = [_check(concept, bundle, allow_mismatch=True) for concept in concepts]
    return [warning for warning in checked if warning is not None]


def _check(concept: Concept, bundle: Bundle, *, allow_mismatch: bool) -> InputWarning | None:
    return check_compatible(
        concept,
        bundle.fingerprint,
        bundle.prompts.widths,
        weights_fingerprint=bundle.weights_fingerprint,
        allow_mismatch=allow_mismatch,
    )


def to_concept(personalization: Personalization, fixed_loss_end: float) -> Concept:
    """Return the current result of the search as a concept with provenance.

    Args:
        personalization: the search.
        fixed_loss_end: its last validation loss.
    """
    bundle, subject, settings = personalization.bundle, personalization.subject, personalization.settings
    names = ENCODERS[bundle.family]
    parts = [part.numpy() for part in personalization.vectors]
    return Concept(
        token=subject.token,
        family=bundle.family,
        embeddings=dict(zip(names, parts, strict=True)),
        kind=subject.kind,
        base_model=bundle.name,
        fingerprint=bundle.fingerprint,
        weights_fingerprint=bundle.weights_fingerprint,
        provenance=Provenance(
            initializer=subject.initializer,
            settings=settings.model_dump(),
            seed=settings.seed,
            steps=personalization.step,
            forwards=personalization.forwards,
            precision=bundle.precision,
            images=len(personalization.references.posteriors),
            fixed_loss_start=personalization.fixed_loss_start,
            fixed_loss_end=fixed_loss_end,
            versions={"zoodip": __version__} | {p: importlib.metadata.version(p) for p in _VERSIONED},
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
    )
