"""The folder of a catalog entry, on disk or from the hub. No torch."""

from __future__ import annotations

from pathlib import Path

from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.base_models.hub import snapshot_folder


def find_model_folder(entry: BaseModelEntry, *, safety_checker: bool = False) -> Path:
    """Return the folder of a base model, downloading a hub id on first use.

    Only configs, tokenizers, licenses and safetensors are downloaded; those of a safety checker only on request.

    Raises:
        InvalidModelError: the hub has no such model, or the model is not on disk and the hub is unreachable.
    """
    if entry.hub_id is None:
        assert entry.path is not None, "the catalog requires a path or a hub id"
        return entry.path
    return snapshot_folder(entry.hub_id, entry.revision, entry.variant, safety_checker=safety_checker)
