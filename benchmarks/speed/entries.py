"""The compared procedures: how each loads a base model and begins its work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch

from benchmarks.speed.inversion import TextualInversion
from benchmarks.speed.ours import EngineSearches
from benchmarks.speed.plain_models import OURS, PlainModels, published_quantizer
from benchmarks.speed.published import PublishedSearch
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.base_models.model_folder import find_model_folder
from zoodip_core.diffusion.device import compute_dtype
from zoodip_core.diffusion.loading import Bundle, load_bundle

REFERENCE = "a"
"""The entry that all others are divided by."""


class Workload(Protocol):
    """Work that is repeated step by step.

    Attributes:
        searches: steps of searches in one step of the workload.
        unet: the U-Net, whose forward passes and rows are counted.
        weights: how the weights are stored.
    """

    searches: int
    unet: Any
    weights: str

    def step(self) -> None:
        """Run one step."""


@dataclass(frozen=True)
class Entry:
    """One row of the table. `begin` starts the work on what `load` returns; then `compiled` entries compile it."""

    name: str
    about: str
    load: Callable[[BaseModelEntry, str], Any]
    begin: Callable[[Any], Workload]
    compiled: bool = False


def _load_plain(entry: BaseModelEntry, device: str, *, quantizer: str | None) -> PlainModels:
    dtype = compute_dtype(torch.device(device), "fp32" if quantizer is None else "int8")
    return PlainModels.load(find_model_folder(entry), device=device, quantizer=quantizer, dtype=dtype)


def _load_ours(entry: BaseModelEntry, device: str) -> Bundle:
    return load_bundle(entry.model_copy(update={"precision": "int8"}), device=device, dequantized_mb=None)


def _engine(count: int, bundle: Bundle) -> EngineSearches:
    return EngineSearches(bundle, count)


_INT8 = partial(_load_plain, quantizer=published_quantizer())
_OUR_INT8, _FP32 = partial(_load_plain, quantizer=OURS), partial(_load_plain, quantizer=None)

ENTRIES: Mapping[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(REFERENCE, "the published procedure", _INT8, PublishedSearch),
        Entry("a-our-int8", "the published procedure with our INT8", _OUR_INT8, PublishedSearch),
        Entry("a-compiled", "the published procedure, compiled", _INT8, PublishedSearch, compiled=True),
        Entry("b", "ours, one search", _load_ours, partial(_engine, 1)),
        *(
            Entry(f"c{count}", f"ours, {count} searches", _load_ours, partial(_engine, count))
            for count in (2, 4, 8, 16, 32)
        ),
        Entry("d-fp32", "backpropagation, fp32", _FP32, partial(TextualInversion, checkpointing=False)),
        Entry(
            "d-int8",
            "backpropagation, INT8 and checkpointing",
            _INT8,
            partial(TextualInversion, checkpointing=True),
        ),
        Entry(
            "e",
            "ours, 8 searches and a queue of generations",
            _load_ours,
            partial(EngineSearches, searches=8, generations=True),
        ),
    )
}
