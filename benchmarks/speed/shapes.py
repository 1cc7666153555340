"""Base models of the benchmark: the embedded one, and full-size shapes with random weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.speed.entries import ENTRIES
from tests.tooling.families import FAMILIES, Family, sd15, sd21, sdxl
from tests.tooling.models import WORDS, write_pipeline
from zoodip_core.base_models.catalog import BaseModelEntry, Catalog

NARROW = "sd1-narrow"
"""The model of `--small`: a few blocks for images of 64 px."""


def _sd15_at_256() -> Family:
    full = sd15()
    return replace(full, unet=full.unet | {"sample_size": 32}, vae=full.vae | {"sample_size": 256})


SHAPES: Mapping[str, Callable[[], Family]] = {
    NARROW: lambda: FAMILIES["sd1"],
    "sd15-256": _sd15_at_256,
    "sd15": sd15,
    "sd21": sd21,
    "sdxl": sdxl,
}
MODELS = ("emoji", *SHAPES)

_ALL = tuple(name for name, entry in ENTRIES.items() if entry.compile is None)
COMPILED_ENTRIES = tuple(name for name, entry in ENTRIES.items() if entry.compile is not None)
DEFAULT_ENTRIES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "cpu": {"emoji": _ALL, "sd15-256": ("a", "b", "c2")},  # a step of SD1.5 takes half a minute
    "cuda": {"sd15": _ALL, "sd21": _ALL, "sdxl": _ALL},
}
"""Type of device → models of a run without `--models`, with their entries."""

SMALL_ENTRIES = ("a", "b", "c2", "d-fp32", "d-int8", "e")
"""Entries of `--small`: one of each kind."""


def prepare_model(name: str, folder: Path) -> BaseModelEntry:
    """Return the base model; write its files to `folder` first if it has random weights and they are missing."""
    if name not in SHAPES:
        return Catalog.load().get(name)
    place = folder / name
    if not (place / "model_index.json").is_file():  # written last
        dtype = torch.float32 if name == NARROW else torch.float16
        write_pipeline(place, SHAPES[name](), words=WORDS, seed=0, dtype=dtype, variant=None)
    return BaseModelEntry.model_validate({"name": name, "path": place.resolve()})
