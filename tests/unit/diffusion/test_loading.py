"""Loading of a catalog entry into a frozen bundle."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.tooling.models import build_family
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.config import GenerationSettings
from zoodip_core.diffusion.generation import generate
from zoodip_core.diffusion.loading import Bundle, find_model_folder, load_bundle
from zoodip_core.diffusion.quantize import quantization_report
from zoodip_core.errors import InvalidInputError, InvalidModelError


def test_an_unreachable_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A model that is not on disk gives a typed error with its name when the hub is offline."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InvalidModelError, match="nobody/nothing"):
        find_model_folder(BaseModelEntry(name="far", hub_id="nobody/nothing", family="sd1"))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "nf4", "fp16"])
def test_every_precision_draws(family: str, family_folder: dict[str, Path], precision: str) -> None:
    """Each family loads in each precision and draws an image. INT8 and NF4 quantize most parameters."""
    entry = BaseModelEntry(name="x", path=family_folder[family], precision=precision)
    bundle = load_bundle(entry, device="cpu")
    (drawn,) = generate(bundle, GenerationSettings(prompt="a photo of a dog", steps=2))
    assert drawn.image.size == (64, 64)
    report = quantization_report(bundle.modules)
    assert (report.quantized_share > 0.5) == (precision != "fp16")


def test_the_vae_is_loaded_on_use_and_released(bundles: dict[str, Bundle]) -> None:
    """The VAE is loaded once, on first use, and can be released."""
    bundle = bundles["sd1"]
    bundle.release_vae()
    before = len(bundle.modules)
    assert bundle.vae is bundle.vae
    assert len(bundle.modules) == before + 1
    bundle.release_vae()
    assert len(bundle.modules) == before


def test_sizes_come_from_the_configs(bundles: dict[str, Bundle]) -> None:
    """Image side, scale factor and channels come from the configs; only SDXL has time ids."""
    for family, bundle in bundles.items():
        assert (bundle.side_px, bundle.scale_factor, bundle.latent_channels) == (64, 8, 4)
        time_ids = bundle.time_ids((64, 48))
        if family == "sdxl":
            assert time_ids is not None
            assert time_ids.tolist() == [[64, 48, 0, 0, 64, 48]]
        else:
            assert time_ids is None


@pytest.mark.parametrize("missing", ["unet/diffusion_pytorch_model.safetensors", "model_index.json"])
def test_an_incomplete_folder(tmp_path: Path, missing: str) -> None:
    """The error names the missing file or folder."""
    folder = build_family(tmp_path, "sd1")
    (folder / missing).unlink()
    with pytest.raises(InvalidModelError, match=missing.split("/")[0]):
        load_bundle(BaseModelEntry(name="x", path=folder), device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device(family_folder: dict[str, Path]) -> None:
    """Requesting CUDA without a CUDA device is an error, not a silent run on the CPU."""
    with pytest.raises(
        InvalidInputError, match="device: got 'cuda'; expected cpu, the only device that torch finds here"
    ):
        load_bundle(BaseModelEntry(name="x", path=family_folder["sd1"]), device="cuda")
