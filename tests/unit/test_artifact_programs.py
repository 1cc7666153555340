"""Compatibility of concept files with diffusers, A1111 and ComfyUI, in both directions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.numpy import save

from tests.tooling.concepts import FAMILIES, FORMS, WIDTHS, concept
from zoodip_core.artifact import (
    Form,
    export_concept,
    file_name,
    load_concept,
    save_concept,
)
from zoodip_core.base_models.families import Family
from zoodip_core.errors import InvalidTokenError


@pytest.mark.parametrize("vectors", [1, 3])
@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_diffusers_reads_a_concept(
    tmp_path: Path, family_folder: dict[str, Path], family: Family, vectors: int
) -> None:
    """`load_textual_inversion` stores our vectors, row by row, under the ids of the prompt's tokens."""
    pipeline = StableDiffusionPipeline.from_pretrained(family_folder[family], safety_checker=None)
    original = concept(family, vectors)
    save_concept(original, tmp_path / "my-dog.safetensors")
    pipeline.load_textual_inversion(str(tmp_path / "my-dog.safetensors"))
    text = pipeline.maybe_convert_prompt("a photo of a <my-dog>", pipeline.tokenizer)
    ids = pipeline.tokenizer(text, add_special_tokens=False).input_ids[-vectors:]
    rows = pipeline.text_encoder.get_input_embeddings().weight[ids]
    assert rows.detach().numpy().tobytes() == original.embeddings["clip"].tobytes()


@pytest.mark.parametrize("form", FORMS)
def test_diffusers_reads_sdxl(family_folder: dict[str, Path], form: Form) -> None:
    """Each of the two tensors loads into its text encoder, as in the guide of diffusers."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(family_folder["sdxl"])
    original = concept("sdxl", 2)
    tensors = safetensors.torch.load(export_concept(original, form))
    for key, encoder, tokenizer in (
        ("clip_l", pipeline.text_encoder, pipeline.tokenizer),
        ("clip_g", pipeline.text_encoder_2, pipeline.tokenizer_2),
    ):
        pipeline.load_textual_inversion(
            tensors[key], token="<my-dog>", text_encoder=encoder, tokenizer=tokenizer
        )
        ids = [tokenizer.convert_tokens_to_ids(name) for name in ("<my-dog>", "<my-dog>_1")]
        rows = encoder.get_input_embeddings().weight[ids]
        assert rows.detach().numpy().tobytes() == original.embeddings[key].tobytes()


def read_as_a1111(data: bytes) -> tuple[Any, int, int]:
    """Reimplement A1111's EmbeddingDatabase.load_from_file. Returns the tensors, the width and the number of vectors.

    A dict with `clip_g` and `clip_l` is for SDXL, and its width is the sum of both. Any other file must have
    exactly one tensor. The file name is the name of the embedding. A1111 skips files of another width.
    Source: AUTOMATIC1111/stable-diffusion-webui, modules/textual_inversion/textual_inversion.py.
    """
    tensors = safetensors.torch.load(data)
    assert "string_to_param" not in tensors
    if "clip_g" in tensors and "clip_l" in tensors:
        width = tensors["clip_g"].shape[-1] + tensors["clip_l"].shape[-1]
        return tensors, width, tensors["clip_g"].shape[0]
    assert len(tensors) == 1, "embedding file has multiple terms in it"
    (vectors,) = tensors.values()
    return vectors, vectors.shape[-1], vectors.shape[0]


def read_as_comfyui(data: bytes, key: str) -> torch.Tensor:
    """Reimplement ComfyUI's load_embed: return the tensor with the encoder's key, else the first one.

    `key` is "clip_l" in the tokenizers of SD1 and SD2 (SD2 uses the default). SDXL has one tokenizer with "clip_l"
    and one with "clip_g". Source: Comfy-Org/ComfyUI, comfy/sd1_clip.py, sd2_clip.py and sdxl_clip.py.
    """
    tensors = safetensors.torch.load(data)
    assert "string_to_param" not in tensors
    if key in tensors:
        return tensors[key]
    assert not any(name.startswith("bundle_emb.") for name in tensors)
    return next(iter(tensors.values()))


@pytest.mark.parametrize("family", FAMILIES)
def test_a1111_reads_a_concept(family: Family) -> None:
    """A1111 finds all vectors, and the width that it compares with the model."""
    original = concept(family, 2)
    found, width, vectors = read_as_a1111(export_concept(original, "a1111"))
    assert (width, vectors) == (sum(WIDTHS[family]), 2)
    tensors = found if family == "sdxl" else {"clip": found}
    for name, value in original.embeddings.items():
        assert tensors[name].numpy().tobytes() == value.tobytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_comfyui_reads_a_concept(family: Family) -> None:
    """ComfyUI finds the right tensor for each text encoder."""
    original = concept(family, 2)
    data = export_concept(original, "comfyui")
    for name, value in original.embeddings.items():
        key = name if family == "sdxl" else "clip_l"
        assert read_as_comfyui(data, key).numpy().tobytes() == value.tobytes()


def test_the_file_name_is_the_token_without_brackets() -> None:
    """ComfyUI cuts the name of an embedding at `<`, and Windows does not allow it in file names."""
    assert file_name("<my-dog>") == "my-dog.safetensors"


@pytest.mark.parametrize(
    ("tensors", "family"),
    [
        ({"<cat-toy>": np.ones((1, 768), np.float32)}, "sd1"),
        ({"<cat-toy>": np.ones(768, np.float32)}, "sd1"),
        ({"emb_params": np.ones((4, 768), np.float16)}, "sd1"),
        ({"emb_params": np.ones((4, 1024), np.float32)}, "sd2"),
        ({"clip_l": np.ones((2, 768), np.float32)}, "sd1"),
        ({"clip_g": np.ones((2, 1280), np.float32), "clip_l": np.ones((2, 768), np.float32)}, "sdxl"),
    ],
)
def test_files_of_other_programs_load(tensors: dict[str, Any], family: Family) -> None:
    """Files of diffusers, A1111 and ComfyUI in fp32 or fp16 load as concepts without provenance."""
    loaded = load_concept(save(tensors), token="<toy>")
    assert (loaded.token, loaded.family) == ("<toy>", family)
    assert (loaded.base_model, loaded.fingerprint, loaded.provenance) == (None, None, None)
    assert all(value.dtype == np.float32 and value.ndim == 2 for value in loaded.embeddings.values())


def test_bfloat16_loads() -> None:
    """NumPy has no bfloat16, but its numbers load exactly."""
    values = torch.tensor([[1.5, -0.0078125, 3e30]], dtype=torch.bfloat16)
    loaded = load_concept(safetensors.torch.save({"<x>": values}))
    assert loaded.embeddings["clip"].tobytes() == values.float().numpy().tobytes()


def test_a_file_of_another_program_needs_a_token_unless_its_key_is_one() -> None:
    """The key `<cat-toy>` is a token; `emb_params` is not."""
    assert load_concept(save({"<cat-toy>": np.ones((1, 4), np.float32)})).token == "<cat-toy>"
    with pytest.raises(InvalidTokenError, match="got none in the file; expected one"):
        load_concept(save({"emb_params": np.ones((1, 4), np.float32)}))
    with pytest.raises(InvalidTokenError, match=r"token: got 'dog'; expected <name>"):
        load_concept(save({"emb_params": np.ones((1, 4), np.float32)}), token="dog")


def test_load_concept_can_rename_the_token() -> None:
    """The given token replaces the stored one; the other fields stay."""
    loaded = load_concept(export_concept(concept(), "a1111"), token="<other>")
    assert (loaded.token, loaded.base_model) == ("<other>", "emoji")
