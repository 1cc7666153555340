"""Concept files for import requests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zoodip_core.artifact import Concept, export_concept
from zoodip_core.base_models.families import embedding_widths
from zoodip_core.base_models.fingerprint import fingerprint


def tiny_concept(catalog: Path) -> bytes:
    """Return a concept file of `<my-dog>` with two random vectors for the default base model."""
    folder = catalog.parent / "tiny"
    (width,) = embedding_widths(folder)
    vectors = np.random.default_rng(0).standard_normal((2, width)).astype(np.float32)
    concept = Concept(
        "<my-dog>", "sd1", {"clip": vectors}, base_model="tiny", fingerprint=fingerprint(folder)
    )
    return export_concept(concept, "diffusers")
