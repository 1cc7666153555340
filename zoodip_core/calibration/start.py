"""Draws the pictures of a pseudo-subject and starts its personalization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoodip_core.calibration.pseudo_subjects import PseudoSubject
from zoodip_core.config import GenerationSettings, PersonalizationSettings
from zoodip_core.diffusion.generation import generate_together
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.subject import Subject

TOKEN = "<calibration>"  # noqa: S105 — a placeholder in captions


def begin_pseudo_subject(
    bundle: Bundle,
    subject: PseudoSubject,
    seed: int,
    generation: Mapping[str, int | float],
    settings: Mapping[str, Any] | None = None,
) -> Personalization:
    """Draw the pictures of a pseudo-subject and encode them as the references of a personalization.

    Args:
        bundle: the base model.
        subject: what to draw.
        seed: seed of the pictures.
        generation: steps and guidance scale of the pictures.
        settings: settings of the search, for a caller that runs it.
    """
    requests = [
        GenerationSettings.parse(
            {**generation, "prompt": template.replace("{}", subject.phrase), "seed": 1000 * seed + index}
        )
        for index, template in enumerate(subject.templates)
    ]
    pictures = [images[0].image for images in generate_together(bundle, requests)]
    captions = tuple(template.replace("{}", TOKEN) for template in subject.templates)
    return Personalization.begin(
        bundle,
        Subject(TOKEN, subject.initializer, subject.kind, captions),
        pictures,
        PersonalizationSettings.parse({**(settings or {}), "fixed_rows": 1}),
    )
