"""Family detection from JSON files, and fingerprints and lookup of weight files."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoodip_core.base_models import fingerprint as module
from zoodip_core.base_models.families import detect_family, embedding_widths
from zoodip_core.base_models.fingerprint import fingerprint
from zoodip_core.base_models.weight_files import read_shard_index, weight_files
from zoodip_core.errors import InvalidModelError


@pytest.fixture
def edited(tmp_path: Path, family_folder: dict[str, Path]) -> Callable[..., Path]:
    """Return a function that copies a family's folder and replaces values of a JSON file."""

    def edit(family: str, name: str, **values: Any) -> Path:
        folder = tmp_path / family
        shutil.copytree(family_folder[family], folder)
        config = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(config | values))
        return folder

    return edit


@pytest.mark.parametrize(
    ("built", "family", "widths"),
    [("sd1", "sd1", (32,)), ("sd2", "sd2", (32,)), ("sd2_v", "sd2", (32,)), ("sdxl", "sdxl", (32, 64))],
)
def test_the_architecture_decides_the_family(
    family_folder: dict[str, Path], built: str, family: str, widths: tuple[int, ...]
) -> None:
    """Narrow test models have the architecture of the published ones, so their widths may differ."""
    assert detect_family(family_folder[built]) == family
    assert embedding_widths(family_folder[built]) == widths


def test_v_prediction_alone_does_not_make_a_model_sd2(edited: Callable[..., Path]) -> None:
    """The embedded model is SD1 with v-prediction."""
    folder = edited("sd1", "scheduler/scheduler_config.json", prediction_type="v_prediction")
    assert detect_family(folder) == "sd1"


def test_open_clips_width_makes_it_sd2(edited: Callable[..., Path]) -> None:
    """Old folders of SD2 do not list linear projections, but have a width of 1024."""
    assert detect_family(edited("sd1", "unet/config.json", cross_attention_dim=1024)) == "sd2"


@pytest.mark.parametrize(
    ("name", "values", "fault"),
    [
        (
            "model_index.json",
            {"_class_name": "FluxPipeline"},
            "got FluxPipeline in .*; expected Stable Diffusion 1",
        ),
        (
            "unet/config.json",
            {"in_channels": 9},
            "a U-Net with 9 input and 4 output channels in .*; expected a text-to-image model",
        ),
        ("unet/config.json", {"addition_embed_type": "text_time"}, "time ids without a second text encoder"),
        (
            "scheduler/scheduler_config.json",
            {"_class_name": "EDMEulerScheduler"},
            "got _class_name 'EDMEulerScheduler' in scheduler/scheduler_config.json; expected DDIMScheduler",
        ),
    ],
)
def test_other_pipelines_are_refused(
    edited: Callable[..., Path], name: str, values: dict[str, Any], fault: str
) -> None:
    """Inpainting models, refiners and other architectures raise an error that names them."""
    with pytest.raises(InvalidModelError, match=fault):
        detect_family(edited("sd1", name, **values))


@pytest.mark.parametrize(
    "name", ["model_index.json", "unet/config.json", "text_encoder/config.json", "vae/config.json"]
)
def test_an_incomplete_folder_names_the_missing_file(edited: Callable[..., Path], name: str) -> None:
    """The message distinguishes an incomplete download from an unsupported model."""
    folder = edited("sd1", "model_index.json")
    (folder / name).unlink()
    with pytest.raises(
        InvalidModelError, match=f"{name} .No such file or directory.; expected a folder with"
    ):
        detect_family(folder)
    (folder / name).write_text("{")
    with pytest.raises(InvalidModelError, match=f"{name} is not JSON"):
        detect_family(folder)
    (folder / name).write_text("[]")
    with pytest.raises(InvalidModelError, match=f"{name} is not a JSON object"):
        detect_family(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """The message names the folder instead of a file in it."""
    with pytest.raises(InvalidModelError, match="nowhere, which does not exist"):
        detect_family(tmp_path / "nowhere")


def test_a_fingerprint_can_be_computed_by_hand(family_folder: dict[str, Path]) -> None:
    """The shell command in docs/reference/concept-file.md returns the same fingerprint."""
    files = "text_encoder/model.safetensors unet/diffusion_pytorch_model.safetensors"
    command = f"sha256sum {files} | cut -c1-64 | sha256sum | cut -c1-64"
    result = subprocess.run(
        ["bash", "-c", command], cwd=family_folder["sd1"], capture_output=True, text=True, check=True
    )
    assert fingerprint(family_folder["sd1"]) == result.stdout.strip()


def test_a_fingerprint_covers_text_encoders_and_unet_only(edited: Callable[..., Path]) -> None:
    """A changed byte of a text encoder or the U-Net changes the fingerprint; one of the VAE does not."""
    folder = edited("sdxl", "model_index.json")
    before = fingerprint(folder)
    for part, changes in (("vae", False), ("text_encoder", True), ("text_encoder_2", True), ("unet", True)):
        (file,) = weight_files(folder / part)
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        after = fingerprint(folder)
        assert (after != before) == changes
        before = after


def test_a_file_is_hashed_once(edited: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest is cached, so jobs do not hash gigabytes again."""
    folder = edited("sd1", "model_index.json")
    first = fingerprint(folder)
    monkeypatch.setattr(module.hashlib, "file_digest", lambda *_: pytest.fail("read again"))
    assert fingerprint(folder) == first


def test_full_weights_take_precedence_over_a_variant_and_shards_are_found(
    edited: Callable[..., Path],
) -> None:
    """Weights have the layouts of the hub: one file, an `fp16` file, or shards with an index."""
    unet = edited("sd1", "model_index.json") / "unet"
    (full,) = weight_files(unet)
    half = unet / "diffusion_pytorch_model.fp16.safetensors"
    shutil.copy(full, half)
    assert weight_files(unet) == [full]
    full.unlink()
    assert weight_files(unet) == [half]
    shards = [unet / f"diffusion_pytorch_model-{number}.safetensors" for number in (1, 2)]
    index = {"weight_map": {"a": shards[1].name, "b": shards[0].name, "c": shards[0].name}}
    (unet / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    half.rename(shards[0])
    with pytest.raises(
        InvalidModelError, match=r"lists diffusion_pytorch_model-2\.safetensors, which is missing"
    ):
        weight_files(unet)
    shutil.copy(shards[0], shards[1])
    assert weight_files(unet) == shards


@pytest.mark.parametrize("listed", ["../part.safetensors", "/part.safetensors", "part.bin", 3])
def test_an_index_may_list_only_files_of_its_folder(tmp_path: Path, listed: object) -> None:
    """A path outside the folder, or a pickle, is refused before anything is read."""
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"weight": listed}}))
    with pytest.raises(InvalidModelError, match=r"expected names of \.safetensors files in its folder"):
        read_shard_index(index)


@pytest.mark.parametrize("content", ["[]", "{}", "not json", '{"weight_map": 3}'])
def test_a_malformed_index_is_refused(tmp_path: Path, content: str) -> None:
    """The message names the file."""
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(content)
    with pytest.raises(InvalidModelError, match="is not an index"):
        read_shard_index(index)


def test_weights_in_pickles_are_refused(edited: Callable[..., Path]) -> None:
    """The message names the files found and the allowed format."""
    folder = edited("sd1", "model_index.json")
    (file,) = weight_files(folder / "text_encoder")
    file.rename(file.with_name("pytorch_model.bin"))
    with pytest.raises(InvalidModelError, match=r"got pytorch_model\.bin in .*; expected model\.safetensors"):
        fingerprint(folder)
    (folder / "text_encoder" / "pytorch_model.bin").unlink()
    with pytest.raises(InvalidModelError, match="got no weights in"):
        fingerprint(folder)
