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
        weights: how the weights are stored.
    """

    searches: int
    weights: str

    def watch(self, on_pass: Callable[[int], None]) -> None:
        """Call a function with the number of rows of each pass of the U-Net."""

    def step(self) -> None:
        """Run one step."""


@dataclass(frozen=True)
class Entry:
    """One row of the table. `begin` starts the work on what `load` returns; then `compile` compiles both."""

    name: str
    about: str
    load: Callable[[BaseModelEntry, str], Any]
    begin: Callable[[Any], Workload]
    compile: Callable[[Any, Workload], None] | None = None


def _load_plain(entry: BaseModelEntry, device: str, *, quantizer: str | None) -> PlainModels:
    dtype = compute_dtype(torch.device(device), "fp32" if quantizer is None else "int8")
    return PlainModels.load(find_model_folder(entry), device=device, quantizer=quantizer, dtype=dtype)


def _load_ours(entry: BaseModelEntry, device: str, *, compiled: bool = False) -> Bundle:
    int8 = entry.model_copy(update={"precision": "int8"})
    return load_bundle(int8, device=device, dequantized_mb=None, compiled=compiled)


def _compile_plain(models: PlainModels, workload: Workload) -> None:
    models.compile()
    workload.step()


def _compile_ours(bundle: Bundle, workload: Workload) -> None:
    """Run steps until none of them starts the compiler, which builds one program at a time."""
    given = [bundle.denoiser.compiled, *(encoder.compiled for encoder in bundle.prompts.encoders)]
    networks, before = [network for network in given if network is not None], None
    while before != (ready := [network.buckets for network in networks]):
        before = ready
        workload.step()
        for network in networks:
            network.wait()


def _engine(count: int, bundle: Bundle) -> EngineSearches:
    return EngineSearches(bundle, count)


_INT8 = partial(_load_plain, quantizer=published_quantizer())
_OUR_INT8, _FP32 = partial(_load_plain, quantizer=OURS), partial(_load_plain, quantizer=None)
_OURS_COMPILED = partial(_load_ours, compiled=True)

ENTRIES: Mapping[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(REFERENCE, "the published procedure", _INT8, PublishedSearch),
        Entry("a-our-int8", "the published procedure with our INT8", _OUR_INT8, PublishedSearch),
        Entry("a-compiled", "the published procedure, compiled", _INT8, PublishedSearch, _compile_plain),
        Entry("b", "ours, one search", _load_ours, partial(_engine, 1)),
        *(
            Entry(f"c{count}", f"ours, {count} searches", _load_ours, partial(_engine, count))
            for count in (2, 4, 8, 16, 32)
        ),
        *(
            Entry(
                f"{name}-compiled",
                f"{about}, compiled",
                _OURS_COMPILED,
                partial(_engine, count),
                _compile_ours,
            )
            for name, about, count in (
                ("b", "ours, one search", 1),
                ("c8", "ours, 8 searches", 8),
                ("c16", "ours, 16 searches", 16),
            )
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
