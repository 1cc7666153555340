"""Loading of a catalog entry into a frozen bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.tooling.models import build_family
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.base_models.model_folder import find_model_folder
from zoodip_core.config import GenerationSettings, Precision
from zoodip_core.diffusion.generation import generate
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.diffusion.quantize import Int8Weight, Nf4Weight, quantization_report
from zoodip_core.errors import InvalidInputError, InvalidModelError

pytestmark = pytest.mark.slow


def test_an_unreachable_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A model that is not on disk gives a typed error with its name when the hub is offline."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InvalidModelError, match="nobody/nothing"):
        find_model_folder(BaseModelEntry(name="far", hub_id="nobody/nothing", family="sd1"))


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


@pytest.fixture
def with_config(tmp_path: Path, family_folder: dict[str, Path]) -> Iterator[object]:
    """Return a function that loads a copy of a family with keys of a JSON file replaced; None removes a key."""

    def load(family: str, name: str, **values: object) -> Bundle:
        folder = shutil.copytree(family_folder[family], tmp_path / family)
        config = json.loads((folder / name).read_text()) | values
        kept = {key: value for key, value in config.items() if value is not None}
        (folder / name).write_text(json.dumps(kept))
        return load_bundle(BaseModelEntry(name="x", path=folder, precision="fp16"), device="cpu")

    return load


@pytest.mark.parametrize(
    ("family", "force_upcast", "dtype"),
    [
        ("sd1", None, torch.float16),
        ("sd2", None, torch.float16),
        ("sdxl", None, torch.float32),
        ("sd1", True, torch.float32),
        ("sdxl", False, torch.float16),
    ],
)
def test_only_sdxls_vae_is_upcast_by_default(
    with_config: object,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    force_upcast: bool | None,
    dtype: torch.dtype,
) -> None:
    """A configuration without `force_upcast` doubles the memory of the VAE only where fp16 overflows."""
    monkeypatch.setattr("zoodip_core.diffusion.loading.compute_dtype", lambda *_: torch.float16)
    bundle = with_config(family, "vae/config.json", force_upcast=force_upcast)  # type: ignore[operator]
    assert next(bundle.vae.parameters()).dtype == dtype


@pytest.mark.parametrize(
    ("family", "value", "zeros"),
    [("sdxl", None, True), ("sdxl", False, False), ("sd1", None, False)],
)
def test_sdxl_encodes_an_empty_prompt_as_zeros_by_default(
    with_config: object, family: str, value: bool | None, zeros: bool
) -> None:
    """Diffusers' pipeline of SDXL has this default, so an index without the key means it."""
    bundle = with_config(family, "model_index.json", force_zeros_for_empty_prompt=value)  # type: ignore[operator]
    assert bundle.zero_empty_prompt is zeros


@pytest.fixture
def _tf32() -> Iterator[None]:
    """Enable TF32, and restore the flags afterwards."""
    flags = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = True
    yield
    for flag, value in zip(flags, before, strict=True):
        flag.allow_tf32 = value


@pytest.mark.usefixtures("_tf32")
@pytest.mark.parametrize(("part", "allowed"), [({}, True), ({"precision": "fp32"}, False)])
def test_fp32_disables_tf32(family_folder: dict[str, Path], part: dict[str, str], allowed: bool) -> None:
    """Convolutions and matrix products of an fp32 model keep all bits; other precisions leave the flags."""
    entry = BaseModelEntry.model_validate({"name": "x", "path": family_folder["sd1"]} | part)
    load_bundle(entry, device="cpu")
    assert torch.backends.cudnn.allow_tf32 is allowed
    assert torch.backends.cuda.matmul.allow_tf32 is allowed


@pytest.mark.parametrize(
    ("keys", "kinds", "label"),
    [
        ({"precision": "nf4"}, (Nf4Weight, Int8Weight, Int8Weight), "nf4"),
        ({"precision": "int8"}, (Int8Weight, Int8Weight, Int8Weight), "int8"),
        ({"precision": "nf4", "vae_precision": "nf4"}, (Nf4Weight, Int8Weight, Nf4Weight), "nf4/int8/nf4"),
        ({"text_encoder_precision": "nf4"}, (Int8Weight, Nf4Weight, Int8Weight), "int8/nf4/int8"),
        ({"unet_precision": "nf4"}, (Nf4Weight, Int8Weight, Int8Weight), "nf4"),
    ],
)
def test_each_part_has_its_precision(
    family_folder: dict[str, Path], keys: dict[str, Precision], kinds: tuple[type, ...], label: str
) -> None:
    """`nf4` quantizes only the U-Net to 4 bits, as the paper does. The catalog can set each part."""
    entry = BaseModelEntry.model_validate({"name": "x", "path": family_folder["sdxl"]} | keys)
    bundle = load_bundle(entry, device="cpu")
    parts = (bundle.denoiser.unet, bundle.prompts.encoders[1].model, bundle.vae)
    for part, kind in zip(parts, kinds, strict=True):
        found = {type(module) for module in part.modules() if isinstance(module, (Int8Weight, Nf4Weight))}
        assert found == {kind}
    assert str(bundle.precisions) == label
