"""A checkpoint in one file becomes the same networks as the pipeline folder, and as diffusers' own loader reads."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers.loaders import single_file_utils as diffusers_loader
from torch import Tensor

from tests.tooling.models import meta_model
from tests.tooling.single_files import single_file_tensors, write_published_like, write_single_file
from zoodip_core.base_models.families import detect_family
from zoodip_core.base_models.fingerprint import fingerprint, weights_fingerprint
from zoodip_core.base_models.footprint import parameter_counts
from zoodip_core.base_models.single_file.folder import write_pipeline_folder
from zoodip_core.base_models.weight_files import weight_files
from zoodip_core.diffusion.weights import load_quantized
from zoodip_core.errors import InvalidModelError

pytestmark = pytest.mark.slow

FAMILIES = ("sd1", "sd2", "sdxl")
PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Return each family in turn."""
    return str(request.param)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, family: str) -> tuple[Path, Path]:
    """Return a pipeline folder, and the folder that is written for the same weights in one file."""
    place = tmp_path_factory.mktemp(family)
    source = write_published_like(place / "source", family)
    return source, written(write_single_file(source, place / "model.safetensors"))


def written(checkpoint: Path, **options: Any) -> Path:
    """Write the pipeline folder of a checkpoint next to it; return the folder."""
    folder = checkpoint.with_name(f"{checkpoint.stem}-folder")
    folder.mkdir()
    write_pipeline_folder(folder, checkpoint, listed_as=f"../../{checkpoint.name}", **options)
    return folder


def weights(folder: Path, part: str) -> dict[str, Tensor]:
    """Load a network in fp32 through the loader of base models."""
    config = json.loads((folder / part / "config.json").read_text())
    name = config.pop("_class_name", None) or config["architectures"][0]
    config.pop("architectures", None)
    model = load_quantized(
        meta_model(name, config),
        weight_files(folder / part),
        precision="fp32",
        device="cpu",
        dtype=torch.float32,
    )
    return model.state_dict()


@pytest.mark.parametrize("part", PARTS)
def test_every_network_equals_that_of_the_folder(folders: tuple[Path, Path], part: str) -> None:
    """The configuration from the shapes builds the same network, and each tensor has the same values."""
    source, single = folders
    if not (source / part).is_dir():
        pytest.skip("one text encoder")
    expected, got = weights(source, part), weights(single, part)
    assert expected.keys() == got.keys()
    for name, tensor in expected.items():
        assert torch.equal(got[name], tensor), name


def test_configurations_say_the_same_as_published_ones(folders: tuple[Path, Path], family: str) -> None:
    """Values that weights do not show, such as heads, scaling and time ids, equal those of the folder."""
    source, single = folders
    assert detect_family(single) == detect_family(source)
    assert parameter_counts(single) == parameter_counts(source)
    ids = {"pad_token_id", "bos_token_id", "eos_token_id"}
    for part, ignored in (
        ("unet", {"transformer_layers_per_block"}),
        ("vae", {"force_upcast"}),
        ("text_encoder", ids),
    ):
        name = json.loads((source / part / "config.json").read_text()).get("_class_name", "CLIPTextModel")
        expected, got = (_full_config(name, folder / part / "config.json") for folder in (source, single))
        for key in expected.keys() - ignored:
            assert got[key] == expected[key], (part, key)
    scheduler, expected_scheduler = (
        json.loads((folder / "scheduler/scheduler_config.json").read_text()) for folder in (single, source)
    )
    for key in ("beta_start", "beta_end", "beta_schedule", "prediction_type", "steps_offset"):
        assert scheduler[key] == expected_scheduler[key]


def _full_config(name: str, path: Path) -> dict[str, Any]:
    values = {key: value for key, value in json.loads(path.read_text()).items() if not key.startswith("_")}
    values.pop("architectures", None)
    config = meta_model(name, values).config
    full = config.to_dict() if name.startswith("CLIP") else dict(config)
    return {key: value for key, value in full.items() if not key.startswith("_")}


def test_diffusers_reads_the_same_tensors(folders: tuple[Path, Path], family: str) -> None:
    """Oracle: the conversion of diffusers' `from_single_file` gives the same names and values."""
    source, single = folders
    tensors = single_file_tensors(source)
    unet_config = json.loads((single / "unet/config.json").read_text())
    vae_config = json.loads((single / "vae/config.json").read_text())
    oracles = {
        "unet": diffusers_loader.convert_ldm_unet_checkpoint(dict(tensors), unet_config),
        "vae": diffusers_loader.convert_ldm_vae_checkpoint(dict(tensors), vae_config),
    }
    for part, expected in oracles.items():
        got = weights(single, part)
        assert got.keys() == expected.keys()
        for name, tensor in expected.items():
            assert torch.equal(got[name], tensor.reshape(got[name].shape)), name


def test_diffusers_reads_the_same_open_clip(folders: tuple[Path, Path], family: str) -> None:
    """Oracle: diffusers splits the fused attention and transposes the projection in the same way."""
    if family == "sd1":
        pytest.skip("no OpenCLIP")
    source, single = folders
    prefix, part = ("cond_stage_model.model.", "text_encoder")
    if family == "sdxl":
        prefix, part = ("conditioner.embedders.1.model.", "text_encoder_2")
    model = SimpleNamespace(config=SimpleNamespace(hidden_size=64))
    expected = diffusers_loader.convert_open_clip_checkpoint(model, single_file_tensors(source), prefix)
    named = {name.removeprefix("text_model."): tensor for name, tensor in expected.items()}
    got = {name.removeprefix("text_model."): tensor for name, tensor in weights(single, part).items()}
    for name in got.keys() - {"embeddings.position_ids"}:
        assert torch.equal(got[name], named[name]), name


def test_both_layouts_are_the_same_model(folders: tuple[Path, Path], tmp_path: Path, family: str) -> None:
    """The weights fingerprint does not depend on the file layout or on fp16; the file fingerprint does."""
    source, single = folders
    half = written(write_single_file(source, tmp_path / "half.safetensors", dtype=torch.float16))
    half_folder = write_published_like(tmp_path / "parts", family, dtype=torch.float16)
    folders_of_one_model = (source, single, half, half_folder)
    assert len({weights_fingerprint(folder) for folder in folders_of_one_model}) == 1
    assert len({fingerprint(folder) for folder in folders_of_one_model}) == 4
    other = write_published_like(tmp_path / "other", family, seed=1)
    assert weights_fingerprint(other) != weights_fingerprint(source)


def test_the_moving_average_is_read_only_on_request(tmp_path: Path) -> None:
    """Like other programs, the last weights are used if a file has both copies. EMA is another model."""
    source = write_published_like(tmp_path / "source", "sd1")
    last = written(write_single_file(source, tmp_path / "last.safetensors", ema=True))
    ema = written(write_single_file(source, tmp_path / "ema.safetensors", ema=True), ema=True)
    name = "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    assert torch.equal(2 * weights(last, "unet")[name], weights(ema, "unet")[name])
    assert weights_fingerprint(last) == weights_fingerprint(source) != weights_fingerprint(ema)
    assert fingerprint(last) != fingerprint(ema)


def test_counters_of_a_pruned_average_are_no_copy(tmp_path: Path) -> None:
    """Pruned files may keep `model_ema.num_updates` without the weights."""
    source = write_published_like(tmp_path / "source", "sd1")

    def leave_counters(tensors: dict[str, Tensor]) -> None:
        tensors["model_ema.num_updates"] = torch.zeros(1, dtype=torch.int32)

    checkpoint = write_single_file(source, tmp_path / "pruned.safetensors", change=leave_counters)
    with pytest.raises(InvalidModelError, match=r"ema: got .*, which has no model_ema\.\* tensors"):
        written(checkpoint, ema=True)


def test_keys_of_old_text_encoders_are_read(tmp_path: Path) -> None:
    """Some checkpoints of SD1 lack `text_model.` in the keys of the text encoder."""
    source = write_published_like(tmp_path / "source", "sd1")

    def shorten(tensors: dict[str, Tensor]) -> None:
        for key in [key for key in tensors if ".text_model." in key]:
            tensors[key.replace(".text_model.", ".")] = tensors.pop(key)

    single = written(write_single_file(source, tmp_path / "old.safetensors", change=shorten))
    assert weights_fingerprint(single) == weights_fingerprint(source)


def test_a_projection_stored_as_a_layer_is_read(tmp_path: Path) -> None:
    """Some merges of SDXL store the weight of a linear layer, which other programs read, too."""
    source = write_published_like(tmp_path / "source", "sdxl")

    def store_layer(tensors: dict[str, Tensor]) -> None:
        key = "conditioner.embedders.1.model.text_projection"
        tensors[f"{key}.weight"] = tensors.pop(key).T

    single = written(write_single_file(source, tmp_path / "merge.safetensors", change=store_layer))
    name = "text_projection.weight"
    assert torch.equal(weights(single, "text_encoder_2")[name], weights(source, "text_encoder_2")[name])


def test_the_vocabulary_is_that_of_the_published_models(folders: tuple[Path, Path]) -> None:
    """The tokenizer that ships with the package has the ids of CLIP."""
    _, single = folders
    ids = json.loads((single / "tokenizer/vocab.json").read_text())
    assert len(ids) == 49_408
    assert [ids[word] for word in ("a</w>", "photo</w>", "of</w>", "cat</w>")] == [320, 1125, 539, 2368]
