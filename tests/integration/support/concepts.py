"""Concept files for import requests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zoodip_core.artifact import Concept, export_concept
from zoodip_core.base_models.catalog import EMBEDDED
from zoodip_core.base_models.families import embedding_widths
from zoodip_core.base_models.fingerprint import fingerprint


def tiny_concept(catalog: Path) -> bytes:
    """Return a concept file of `<my-dog>` with two random vectors for the default base model."""
    return _random_concept(catalog.parent / "tiny", "<my-dog>")


def emoji_concept(token: str) -> bytes:
    """Return a concept file of two random vectors for the embedded base model."""
    return _random_concept(EMBEDDED.with_name("emoji"), token)


def _random_concept(folder: Path, token: str) -> bytes:
    (width,) = embedding_widths(folder)
    vectors = np.random.default_rng(0).standard_normal((2, width)).astype(np.float32)
    concept = Concept(
        token, "sd1", {"clip": vectors}, base_model=folder.name, fingerprint=fingerprint(folder)
    )
    return export_concept(concept, "diffusers")
