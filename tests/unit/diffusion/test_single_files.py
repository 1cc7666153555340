"""A checkpoint in one file loads, draws and takes concepts like the pipeline folder of the same weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tooling.single_files import write_published_like, write_single_file
from zoodip_core.artifact import Concept
from zoodip_core.base_models.catalog import BaseModelEntry, Catalog
from zoodip_core.base_models.model_source import NewModel
from zoodip_core.base_models.registration import add_model
from zoodip_core.config import GenerationSettings
from zoodip_core.diffusion.generation import generate
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.diffusion.weight_checks import check_all_weights, check_weights
from zoodip_core.errors import InvalidModelError, ModelMismatchError
from zoodip_core.personalization.concept_conversion import concept_vectors, mismatch_warnings

pytestmark = pytest.mark.slow


def _load(folder: Path) -> Bundle:
    return load_bundle(BaseModelEntry(name="x", path=folder, precision="fp32"), device="cpu")


def _added(checkpoint: Path, **options: object) -> Path:
    """Add a checkpoint to a catalog next to it; return the folder of the model."""
    catalog = checkpoint.with_suffix(".toml")
    add_model(catalog, NewModel("x", str(checkpoint), **options), check_weights)  # type: ignore[arg-type]
    path = Catalog.load(catalog).get("x").path
    assert path is not None
    return path


def _concept(bundle: Bundle, family: str) -> Concept:
    names = ("clip_l", "clip_g") if family == "sdxl" else ("clip",)
    random = np.random.default_rng(0)
    vectors = {name: random.standard_normal((1, 64)).astype(np.float32) for name in names}
    return Concept(
        "<x>",
        bundle.family,
        vectors,
        base_model="first",
        fingerprint=bundle.fingerprint,
        weights_fingerprint=bundle.weights_fingerprint,
    )


@pytest.mark.parametrize("family", ["sd1", "sd2_v", "sdxl"])
def test_both_layouts_draw_the_same_picture(tmp_path: Path, family: str) -> None:
    """A concept of the folder loads on the file, in half precision too, and draws the same pixels."""
    parts = write_published_like(tmp_path / "parts", family)
    stated = {"modelspec.prediction_type": "v" if family == "sd2_v" else "epsilon"}
    single = _added(write_single_file(parts, tmp_path / "single.safetensors", metadata=stated))
    half = _added(
        write_single_file(parts, tmp_path / "half.safetensors", metadata=stated, dtype=torch.float16)
    )
    bundles = [_load(folder) for folder in (parts, single, half)]
    assert len({bundle.fingerprint for bundle in bundles}) == 3
    concept = _concept(bundles[0], family)
    settings = GenerationSettings(prompt="a photo of a <x>", steps=3, scheduler="ddim")
    drawn = [
        np.asarray(generate(bundle, settings, concept_vectors([concept], bundle))[0].image, np.int16)
        for bundle in bundles
    ]
    assert np.array_equal(drawn[0], drawn[1])
    assert np.abs(drawn[0] - drawn[2]).mean() < 8
    assert mismatch_warnings([concept], bundles[2]) == []


def test_a_fine_tune_takes_the_concept_on_request(tmp_path: Path) -> None:
    """Other weights of the same width refuse the concept, or take it with a warning."""
    first = _load(write_published_like(tmp_path / "first", "sd1"))
    tuned = _load(write_published_like(tmp_path / "tuned", "sd1", seed=1))
    concept = _concept(first, "sd1")
    with pytest.raises(ModelMismatchError, match="allow_model_mismatch"):
        concept_vectors([concept], tuned)
    assert set(concept_vectors([concept], tuned, mismatch_allowed=["<x>"])) == {"<x>"}
    (warning,) = mismatch_warnings([concept], tuned)
    assert warning.code == "model_mismatch"


@pytest.mark.parametrize("precision", ["int8", "nf4"])
def test_a_checkpoint_is_quantized_like_a_folder(tmp_path: Path, precision: str) -> None:
    """Quantized values are bit-identical."""
    parts = write_published_like(tmp_path / "parts", "sd2")
    single = _added(write_single_file(parts, tmp_path / "single.safetensors"), prediction_type="epsilon")
    states = [
        load_bundle(BaseModelEntry(name="x", path=folder, precision=precision), device="cpu")
        for folder in (parts, single)
    ]
    for one, other in zip(states[0].modules, states[1].modules, strict=True):
        expected, got = one.state_dict(), other.state_dict()
        assert expected.keys() == got.keys()
        assert all(torch.equal(tensor, got[name]) for name, tensor in expected.items())


def test_verification_reads_every_weight(tmp_path: Path) -> None:
    """A NaN in the VAE, which the fingerprint does not cover, is found."""

    def damage(tensors: dict[str, torch.Tensor]) -> None:
        tensors["first_stage_model.decoder.conv_out.bias"][0] = torch.nan

    parts = write_published_like(tmp_path / "parts", "sd1")
    single = _added(write_single_file(parts, tmp_path / "single.safetensors", change=damage))
    with pytest.raises(InvalidModelError, match=r"decoder\.conv_out\.bias holds NaN"):
        check_all_weights(single)


PEAK = """
import sys
from pathlib import Path
import psutil, torch
from torch import nn
from safetensors.torch import save_file
from zoodip_core.base_models.tensor_files import THIRDS, Place, write_map
from zoodip_core.diffusion.quantize import quantization_report
from zoodip_core.diffusion.weights import load_quantized

torch.set_num_threads(1)
folder = Path(sys.argv[1])
with torch.device("meta"):
    model = nn.Sequential(*[nn.Linear(4096, 2048, bias=False) for _ in range(12)])
if sys.argv[2] == "write":
    fused = {str(k): torch.randn(3 * 2048, 4096).half() for k in range(4)}
    save_file(fused | {"other": torch.zeros(1000, 1000)}, folder / "model.safetensors")
    places = {f"{k}.weight": Place(str(k // 3), THIRDS[k % 3]) for k in range(12)}
    (folder / "unet").mkdir()
    write_map(folder / "unet", "../model.safetensors", places)
else:
    before = psutil.Process().memory_info().rss
    load_quantized(model, [folder / "unet/checkpoint.json"], precision="int8", device="cpu", dtype=torch.float32)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) * 1024
    print(peak - before, quantization_report([model]).size_bytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_never_holds_the_whole_checkpoint(tmp_path: Path) -> None:
    """For 100 M parameters in fused tensors of 50 MB, the peak is the INT8 model and a few tensors of 17 MB."""
    figures = ""
    for task in ("write", "load"):
        command = [sys.executable, "-c", PEAK, str(tmp_path), task]
        figures = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    growth, held = (int(figure) for figure in figures.split())
    assert 100e6 < held < 102e6
    assert growth < held + 80e6
