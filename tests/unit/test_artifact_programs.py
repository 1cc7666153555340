"""Compatibility of concept files with diffusers, A1111, Forge, ComfyUI and InvokeAI, in both directions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from tests.tooling.concepts import FAMILIES, FORMS, WIDTHS, concept
from tests.tooling.embedding_readers import (
    INVOKEAI_FAMILIES,
    a1111_word,
    comfyui_name,
    invokeai_names,
    invokeai_width,
    read_as_a1111,
    read_as_comfyui,
    read_as_invokeai,
)
from zoodip_core.artifact import (
    ENCODERS,
    Concept,
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


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_a1111_and_forge_read_a_concept(family: Family, vectors: int, form: Form) -> None:
    """A1111 and Forge find all vectors of each form, and the width that they compare with the model."""
    original = concept(family, vectors)
    found, width, count = read_as_a1111(export_concept(original, form))
    assert (width, count) == (sum(WIDTHS[family]), vectors)
    for name, value in original.embeddings.items():
        assert found[name].numpy().tobytes() == value.tobytes()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_comfyui_reads_a_concept(family: Family, vectors: int, form: Form) -> None:
    """ComfyUI finds the vectors of each text encoder in each form."""
    original = concept(family, vectors)
    data = export_concept(original, form)
    for name, value in original.embeddings.items():
        rows = read_as_comfyui(data, name if family == "sdxl" else "clip_l")
        assert [row.numpy().tobytes() for row in rows] == [row.tobytes() for row in value]


_PUBLISHED_WIDTHS: dict[Family, tuple[int, ...]] = {"sd1": (768,), "sd2": (1024,), "sdxl": (768, 1280)}


def _published(family: Family, vectors: int) -> Concept:
    """Return a concept with the widths of the published models."""
    widths = zip(ENCODERS[family], _PUBLISHED_WIDTHS[family], strict=True)
    generator = np.random.default_rng(vectors)
    rows = {name: generator.standard_normal((vectors, width), dtype=np.float32) for name, width in widths}
    return Concept("<my-dog>", family, rows)


@pytest.mark.parametrize(
    ("family", "vectors", "form"),
    [
        *[(family, 1, form) for family in FAMILIES for form in FORMS],
        *[(family, 3, "a1111") for family in FAMILIES],
        ("sdxl", 3, "diffusers"),
    ],
)
def test_invokeai_recognizes_and_reads_a_concept(family: Family, vectors: int, form: Form) -> None:
    """InvokeAI recognizes the base model of one vector in each form, and of several in the form for A1111."""
    original = _published(family, vectors)
    data = export_concept(original, form)
    assert INVOKEAI_FAMILIES[invokeai_width(data)] == family
    for value in original.embeddings.values():
        assert read_as_invokeai(data, value.shape[1]).numpy().tobytes() == value.tobytes()


def test_invokeai_does_not_recognize_several_vectors_in_the_form_for_diffusers() -> None:
    """It takes the number of vectors as the width. The guide says to export such a concept for A1111."""
    assert invokeai_width(export_concept(_published("sd1", 3), "diffusers")) == 3


@given(st.from_regex(r"<[a-z0-9][a-z0-9_-]{0,62}>", fullmatch=True))
def test_each_program_finds_the_file_by_its_name(token: str) -> None:
    """The name of an exported file is the word in prompts of A1111, ComfyUI and InvokeAI."""
    file, word = file_name(token), token[1:-1]
    assert file == f"{word}.safetensors"
    assert a1111_word(file) == word
    assert comfyui_name(f"embedding:{word}") == comfyui_name(f"embedding:{word}, in the snow") == word
    assert invokeai_names(f"a photo of a {token} in the snow") == [word]


def test_comfyui_cuts_a_name_at_a_bracket() -> None:
    """A file that is named after the token with its brackets would not be found."""
    assert comfyui_name("embedding:<my-dog>") == ""


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
