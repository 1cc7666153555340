"""The memory of a whole job, counted in live tensors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.engine.job import measure_job, sized_as_on_cuda
from benchmarks.engine.live_bytes import LiveBytes
from benchmarks.engine.process import measure_job_apart
from benchmarks.engine.shapes import compute_job
from tests.tooling.families import FAMILIES
from zoodip_core.base_models.catalog import BaseModelEntry, Catalog
from zoodip_core.diffusion.loading import load_bundle
from zoodip_core.diffusion.quantize import quantization_report

MB = 2**20


def test_live_tensors_are_counted() -> None:
    """A view costs nothing, a freed tensor no longer counts, and the peak stays."""
    with LiveBytes() as live:
        first = torch.zeros(MB, dtype=torch.uint8)
        view = first[: MB // 2].view(2, -1)
        assert live.current == MB
        second = torch.ones(MB, dtype=torch.uint8)
        assert live.current == 2 * MB
        del first, second
        assert live.current == MB
        del view
        assert (live.current, live.peak) == (0, 2 * MB)


def test_operations_in_place_and_outside_tensors_cost_nothing() -> None:
    """Only storages that are created inside the context count."""
    outside = torch.zeros(MB, dtype=torch.uint8)
    with LiveBytes() as live:
        outside.add_(1)
        outside.view(2, -1)
        assert live.peak == 0


@pytest.mark.slow
def test_every_part_of_a_job_is_measured(family_folder: dict[str, Path]) -> None:
    """The weights are part of each figure. Encoding and decoding hold the VAE, a step does not."""
    entry = BaseModelEntry(name="sd1", path=family_folder["sd1"])
    figures = measure_job(entry, device="cpu", n=2, images=4)
    held = quantization_report(load_bundle(entry, device="cpu").modules).size_bytes
    assert min(figures.begin, figures.step, figures.preview, figures.generation) > held
    assert figures.load >= held
    assert figures.generation > figures.preview
    assert figures.peak == max(figures.begin, figures.step, figures.preview, figures.generation, figures.load)


@pytest.mark.slow
def test_shapes_alone_give_the_memory_of_a_step(family_folder: dict[str, Path]) -> None:
    """The weights agree exactly. Text states, which are not computed, are a large share of a narrow model's step."""
    entry = BaseModelEntry(name="sd1", path=family_folder["sd1"], vae_precision="int8")
    counted = measure_job(entry, device="cpu", n=2)
    with sized_as_on_cuda("cpu"):
        bundle = load_bundle(entry, device="cpu")
    words = len(bundle.prompts.encoders[0].table)
    family = replace(FAMILIES["sd1"], text=(FAMILIES["sd1"].text[0] | {"vocab_size": words},))
    computed = compute_job(family, precision="int8", n=2)
    weights = quantization_report(bundle.modules).size_bytes
    assert computed.load == weights
    activations = computed.step - weights - quantization_report([bundle.vae]).size_bytes
    assert 0.7 < activations / (counted.step - weights) < 1


@pytest.mark.slow
def test_a_job_is_measured_in_another_process() -> None:
    """The process gives the figures of the embedded model back."""
    figures = measure_job_apart(Catalog.load().get("emoji"), n=2, device="cpu", threads=1)
    assert figures.peak > 9_000_000
