"""Families come from JSON files, fingerprints from the bytes of the weights."""

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
    """A copy of a family's folder with some values of a JSON file replaced."""

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
def test_structure_tells_the_family(
    family_folder: dict[str, Path], built: str, family: str, widths: tuple[int, ...]
) -> None:
    """Narrow models have the structure of the real ones, so widths need not be real."""
    assert detect_family(family_folder[built]) == family
    assert embedding_widths(family_folder[built]) == widths


def test_the_embedded_models_prediction_does_not_make_it_sd2(edited: Callable[..., Path]) -> None:
    """v-prediction alone changes nothing."""
    folder = edited("sd1", "scheduler/scheduler_config.json", prediction_type="v_prediction")
    assert detect_family(folder) == "sd1"


def test_open_clips_width_makes_it_sd2(edited: Callable[..., Path]) -> None:
    """Old folders of SD2 say nothing of linear projections, but are 1024 wide."""
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
    ],
)
def test_other_pipelines_are_refused(
    edited: Callable[..., Path], name: str, values: dict[str, Any], fault: str
) -> None:
    """Inpainting models, refiners and other architectures, by name."""
    with pytest.raises(InvalidModelError, match=fault):
        detect_family(edited("sd1", name, **values))


@pytest.mark.parametrize(
    "name", ["model_index.json", "unet/config.json", "text_encoder/config.json", "vae/config.json"]
)
def test_an_incomplete_folder_names_the_missing_file(edited: Callable[..., Path], name: str) -> None:
    """An interrupted download is reported differently from a model of another kind."""
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
    """Before any file in it."""
    with pytest.raises(InvalidModelError, match="nowhere, which does not exist"):
        detect_family(tmp_path / "nowhere")


def test_a_fingerprint_can_be_computed_by_hand(family_folder: dict[str, Path]) -> None:
    """The command in docs/artifact.md gives the same."""
    files = "text_encoder/model.safetensors unet/diffusion_pytorch_model.safetensors"
    command = f"sha256sum {files} | cut -c1-64 | sha256sum | cut -c1-64"
    done = subprocess.run(
        ["bash", "-c", command], cwd=family_folder["sd1"], capture_output=True, text=True, check=True
    )
    assert fingerprint(family_folder["sd1"]) == done.stdout.strip()


def test_a_fingerprint_sees_text_encoders_and_unet_and_nothing_else(edited: Callable[..., Path]) -> None:
    """A changed byte of the VAE changes nothing; of any other model it does, at once."""
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


def test_a_file_is_read_once(edited: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Gigabytes are not hashed again for every job."""
    folder = edited("sd1", "model_index.json")
    first = fingerprint(folder)
    monkeypatch.setattr(module.hashlib, "file_digest", lambda *_: pytest.fail("read again"))
    assert fingerprint(folder) == first


def test_full_weights_come_before_a_variant_and_shards_are_found(edited: Callable[..., Path]) -> None:
    """As they lie on the hub: one file, `fp16`, or shards with an index."""
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
def test_an_index_lists_files_of_its_folder_only(tmp_path: Path, listed: object) -> None:
    """A path that leaves the folder, or a pickle, is refused before anything is read."""
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"weight": listed}}))
    with pytest.raises(InvalidModelError, match=r"expected names of \.safetensors files in its folder"):
        read_shard_index(index)


@pytest.mark.parametrize("content", ["[]", "{}", "not json", '{"weight_map": 3}'])
def test_a_file_that_is_no_index_is_refused(tmp_path: Path, content: str) -> None:
    """One message names the file."""
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(content)
    with pytest.raises(InvalidModelError, match="is no index"):
        read_shard_index(index)


def test_weights_in_pickles_are_refused(edited: Callable[..., Path]) -> None:
    """The message names what is there and what is allowed."""
    folder = edited("sd1", "model_index.json")
    (file,) = weight_files(folder / "text_encoder")
    file.rename(file.with_name("pytorch_model.bin"))
    with pytest.raises(InvalidModelError, match=r"got pytorch_model\.bin in .*; expected model\.safetensors"):
        fingerprint(folder)
    (folder / "text_encoder" / "pytorch_model.bin").unlink()
    with pytest.raises(InvalidModelError, match="got no weights in"):
        fingerprint(folder)
