"""Weights that stay dequantized give the same bits, and their memory is counted."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks.speed.operators import count_flops
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.base_models.footprint import dequantized_mb, weights_mb
from zoodip_core.config import Precision
from zoodip_core.diffusion import dequantized
from zoodip_core.diffusion.denoising import Rows
from zoodip_core.diffusion.dequantized import DequantizedWeight, PackedConv2d, dequantized_budget_mb
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.diffusion.quantize import QuantizedConv2d, QuantizedWeight, quantization_report

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
    for count in (3, 1):  # torch computes a single row with other code
        assert torch.equal(fly.denoiser.predict(rows[:count]), kept.denoiser.predict(rows[:count]))
    reports = [quantization_report(one.modules) for one in (fly, kept)]
    assert reports[0].quantized_share == reports[1].quantized_share
    assert reports[0].size_bytes < 0.6 * reports[1].size_bytes


@pytest.fixture
def packing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pack kernels also on a CPU where that is slower."""
    monkeypatch.setattr(dequantized, "packing_is_faster", lambda: True)


@pytest.mark.parametrize(("capability", "packed"), [("AVX512", True), ("AVX2", False), ("DEFAULT", False)])
def test_kernels_are_packed_only_with_avx_512(
    capability: str, packed: bool, family_folder: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With AVX2 alone, packed kernels are slower."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    bundle = load_bundle(
        BaseModelEntry(name="x", path=family_folder["sd1"]), device="cpu", dequantized_mb=None
    )
    assert (type(_first_convolution(bundle)) is PackedConv2d) is packed


def test_operations_count_with_any_storage_of_weights(family_folder: dict[str, Path], packing: None) -> None:
    """The benchmark of the speed counts as many operations with packed kernels as without."""
    counts = []
    for budget in (0, None):
        entry = BaseModelEntry(name="x", path=family_folder["sd1"])
        bundle = load_bundle(entry, device="cpu", dequantized_mb=budget)
        given = Rows(torch.zeros(2, 4, 8, 8), torch.full((2,), 500), torch.zeros(2, 77, 32))
        counts.append(count_flops(partial(bundle.denoiser.predict, given)))
    assert counts[0] == counts[1] > 0


def test_packed_kernels_are_used_and_have_gradients(family_folder: dict[str, Path], packing: None) -> None:
    """Kernels of convolutions are packed unless the U-Net is compiled. The gradients have equal bits."""
    entry = BaseModelEntry(name="x", path=family_folder["sd1"])
    plain, packed = (
        load_bundle(entry, device="cpu", dequantized_mb=None, compiled=compiled) for compiled in (True, False)
    )
    layers = [_first_convolution(bundle) for bundle in (plain, packed)]
    assert [type(layer) is PackedConv2d for layer in layers] == [False, True]
    assert torch.equal(layers[0].weight, layers[1].weight)
    given = [torch.ones(2, 4, 8, 8, requires_grad=True) for _ in layers]
    for layer, one in zip(layers, given, strict=True):
        layer(one).sum().backward()
    assert given[0].grad is not None
    assert given[1].grad is not None
    assert torch.equal(given[0].grad, given[1].grad)


def _first_convolution(bundle: Bundle) -> QuantizedConv2d:
    layer = bundle.denoiser.unet.conv_in
    assert isinstance(layer, QuantizedConv2d)
    return layer


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
