"""The estimate of a model's memory counts each part at its precision."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.base_models.footprint import weights_mb
from zoodip_core.config import PartPrecisions
from zoodip_core.diffusion.loading import load_bundle
from zoodip_core.diffusion.quantize import quantization_report


def test_each_part_counts_at_its_precision(family_folder: dict[str, Path]) -> None:
    """NF4 halves only the U-Net's share of INT8; fp32 is what the loaded model takes."""
    folder = family_folder["sdxl"]
    parts = {name: weights_mb(folder, PartPrecisions.of(name)) for name in ("int8", "nf4", "fp32")}
    unet = weights_mb(folder, PartPrecisions("fp32", "int8", "int8"))
    share = (unet - parts["int8"]) / (4.0 - 1.01)  # the U-Net's parameters, in millions
    assert parts["int8"] - parts["nf4"] == pytest.approx(share * (1.01 - 0.56))
    bundle = load_bundle(BaseModelEntry(name="x", path=folder, precision="fp32"), device="cpu")
    held = quantization_report([*bundle.modules, bundle.vae]).size_bytes / 1e6
    assert parts["fp32"] == pytest.approx(held, rel=0.01)
