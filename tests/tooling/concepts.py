"""Concepts with random embeddings, and an assertion that two concepts are equal."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoodip_core.artifact import (
    ENCODERS,
    Concept,
    Form,
)
from zoodip_core.base_models.families import Family
from zoodip_core.concept_header import Provenance
from zoodip_core.config import PersonalizationSettings

WIDTHS: dict[Family, tuple[int, ...]] = {"sd1": (32,), "sd2": (32,), "sdxl": (32, 64)}
FORMS: tuple[Form, ...] = ("diffusers", "a1111", "comfyui")
FAMILIES: tuple[Family, ...] = ("sd1", "sd2", "sdxl")


def provenance() -> Provenance:
    """Return the provenance of a fictitious search."""
    return Provenance(
        initializer="dog",
        settings=PersonalizationSettings().model_dump(),
        seed=7,
        steps=400,
        forwards=3600,
        precision="int8",
        images=4,
        fixed_loss_start=0.27,
        fixed_loss_end=0.22,
        versions={"zoodip": "0.1.0", "torch": "2.13.0"},
        created_at="2025-01-01T00:00:00+00:00",
    )


def concept(family: Family = "sd1", vectors: int = 1, **changes: Any) -> Concept:
    """Return a concept with random embeddings.

    Args:
        family: Family of the base model, which determines the encoders and their widths.
        vectors: Vectors for each encoder; also the random seed.
        changes: Fields of `Concept` that replace the defaults.
    """
    generator = np.random.default_rng(vectors)
    embeddings = {
        name: generator.standard_normal((vectors, width), dtype=np.float32)
        for name, width in zip(ENCODERS[family], WIDTHS[family], strict=True)
    }
    defaults = {"kind": "style", "base_model": "emoji", "fingerprint": "ab" * 32, "provenance": provenance()}
    return Concept("<my-dog>", family, embeddings, **(defaults | changes))


def assert_same(left: Concept, right: Concept) -> None:
    """Assert that both concepts have equal fields and bit-identical embeddings."""
    for name in ("token", "family", "kind", "base_model", "fingerprint", "provenance"):
        assert getattr(left, name) == getattr(right, name)
    assert list(left.embeddings) == list(right.embeddings)
    for name, value in left.embeddings.items():
        assert value.tobytes() == right.embeddings[name].tobytes()
        assert value.shape == right.embeddings[name].shape
