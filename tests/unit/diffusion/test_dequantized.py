"""Weights that stay dequantized give the same bits, and their memory is counted."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.base_models.footprint import dequantized_mb, weights_mb
from zoodip_core.config import Precision
from zoodip_core.diffusion.denoising import Rows
from zoodip_core.diffusion.dequantized import DequantizedWeight, dequantized_budget_mb
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.diffusion.quantize import QuantizedWeight, quantization_report

CPU = torch.device("cpu")


def _weights(bundle: Bundle) -> list[QuantizedWeight]:
    return [
        layer for model in bundle.modules for layer in model.modules() if isinstance(layer, QuantizedWeight)
    ]


@pytest.mark.parametrize("precision", ["int8", "nf4"])
def test_the_bits_are_those_of_dequantization_on_the_fly(
    family_folder: dict[str, Path], precision: Precision
) -> None:
    """U-Net and text encoder give equal bits. The quantized share stays, and the size is that in fp32."""
    folder = family_folder["sd1"]
    entry = BaseModelEntry(name="x", path=folder, precision=precision)
    budget = math.ceil(dequantized_mb(folder))
    fly, kept = (load_bundle(entry, device="cpu", dequantized_mb=mb) for mb in (budget - 1, budget))
    assert not any(isinstance(weight, DequantizedWeight) for weight in _weights(fly))
    assert all(isinstance(weight, DequantizedWeight) for weight in _weights(kept))
    prompt = fly.prompts.tokenize("a photo of a cat", {})
    states = [
        one.prompts.encode([e[None] for e in one.prompts.embed(prompt, {})], [prompt]) for one in (fly, kept)
    ]
    assert torch.equal(states[0].states, states[1].states)
    noisy = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    rows = Rows(noisy, torch.full((3,), 500), states[0].states.expand(3, -1, -1))
    assert torch.equal(fly.denoiser.predict(rows), kept.denoiser.predict(rows))
    reports = [quantization_report(one.modules) for one in (fly, kept)]
    assert reports[0].quantized_share == reports[1].quantized_share
    assert reports[0].size_bytes < 0.6 * reports[1].size_bytes


def test_the_estimate_counts_what_stays_dequantized(family_folder: dict[str, Path]) -> None:
    """The estimate from the files equals the memory of the loaded model, for both sides of the budget."""
    folder = family_folder["sd1"]
    entry = BaseModelEntry(name="x", path=folder)
    for budget in (0, 1000):
        bundle = load_bundle(entry, device="cpu", dequantized_mb=budget)
        held = quantization_report([*bundle.modules, bundle.vae]).size_bytes / 1e6
        estimated = weights_mb(folder, entry.precisions, dequantized_budget_mb=budget)
        assert estimated == pytest.approx(held, rel=0.3 if budget == 0 else 0.02)


def test_the_default_budget_depends_on_the_device() -> None:
    """Only a CPU has a default budget; a given one counts on every device."""
    assert dequantized_budget_mb(None, CPU) == 64
    assert dequantized_budget_mb(None, torch.device("cuda")) == 0
    assert dequantized_budget_mb(7, torch.device("cuda")) == 7
