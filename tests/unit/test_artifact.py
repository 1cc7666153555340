"""Concept files: what goes in comes out, other programs read it, and nothing else is let in."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import save

from zoodip_core.artifact import (
    ENCODERS,
    Concept,
    Form,
    Provenance,
    check_compatible,
    export_concept,
    file_name,
    load_concept,
    save_concept,
)
from zoodip_core.config import PersonalizationSettings
from zoodip_core.errors import InvalidArtifactError, InvalidTokenError, ModelMismatchError, StorageError
from zoodip_core.families import Family

WIDTHS: dict[Family, tuple[int, ...]] = {"sd1": (32,), "sd2": (32,), "sdxl": (32, 64)}
FORMS: tuple[Form, ...] = ("diffusers", "a1111", "comfyui")
FAMILIES: tuple[Family, ...] = ("sd1", "sd2", "sdxl")


def provenance() -> Provenance:
    """Of a search that never was."""
    return Provenance(
        initializer="dog",
        settings=PersonalizationSettings().model_dump(),
        seed=7,
        steps=400,
        forwards=3600,
        precision="int8",
        images=4,
        fixed_loss_start=0.27,
        fixed_loss_end=0.22,
        versions={"zoodip": "0.1.0", "torch": "2.13.0"},
        created_at="2025-01-01T00:00:00+00:00",
    )


def concept(family: Family = "sd1", vectors: int = 1, **changes: Any) -> Concept:
    """A concept of random numbers."""
    generator = np.random.default_rng(vectors)
    embeddings = {
        name: generator.standard_normal((vectors, width), dtype=np.float32)
        for name, width in zip(ENCODERS[family], WIDTHS[family], strict=True)
    }
    given = {"kind": "style", "base_model": "emoji", "fingerprint": "ab" * 32, "provenance": provenance()}
    return Concept("<my-dog>", family, embeddings, **(given | changes))


def assert_same(left: Concept, right: Concept) -> None:
    """Both hold the same facts and the same bits."""
    for name in ("token", "family", "kind", "base_model", "fingerprint", "provenance"):
        assert getattr(left, name) == getattr(right, name)
    assert list(left.embeddings) == list(right.embeddings)
    for name, value in left.embeddings.items():
        assert value.tobytes() == right.embeddings[name].tobytes()
        assert value.shape == right.embeddings[name].shape


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_form_gives_the_concept_back(family: Family, form: Form) -> None:
    """An export of any form loads here as the whole concept, provenance included."""
    original = concept(family, vectors=3)
    assert_same(load_concept(export_concept(original, form)), original)


@settings(max_examples=40, deadline=None)
@given(
    values=arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 16), st.integers(1, 64)),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    token=st.from_regex(r"<[a-z0-9][a-z0-9_-]{0,62}>", fullmatch=True),
    words=st.text(max_size=20),
)
def test_round_trip_keeps_every_bit(values: np.ndarray[Any, Any], token: str, words: str) -> None:
    """Any finite numbers, any token, any text in the header; and equal concepts give equal bytes."""
    original = Concept(token, "sd1", {"clip": values}, base_model=words)
    data = export_concept(original, "diffusers")
    assert_same(load_concept(data), original)
    assert export_concept(load_concept(data), "diffusers") == data


def test_the_file_is_fp32_with_one_key_and_says_where_it_comes_from(tmp_path: Path) -> None:
    """The token as the only key, and provenance in the header."""
    save_concept(concept(), tmp_path / "deep" / "x.safetensors")
    data = (tmp_path / "deep" / "x.safetensors").read_bytes()
    tensors = safetensors.torch.load(data)
    assert {key: value.dtype for key, value in tensors.items()} == {"<my-dog>": torch.float32}
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    facts = json.loads(header["__metadata__"]["zoodip"])
    assert facts["fingerprint"] == "ab" * 32
    assert facts["provenance"]["seed"] == 7
    assert facts["provenance"]["settings"]["steps"] == 30_000
    assert facts["provenance"]["versions"] == {"zoodip": "0.1.0", "torch": "2.13.0"}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("vectors", [1, 3])
@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_diffusers_reads_it(
    tmp_path: Path, family_folder: dict[str, Path], family: Family, vectors: int
) -> None:
    """`load_textual_inversion` puts our numbers, row for row, where the prompt will look for them."""
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
    """As its guide does it: each of the two tensors goes to its own text encoder."""
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
    """The rule of A1111's EmbeddingDatabase.load_from_file, in our words: what is read, its width, its vectors.

    A dict with `clip_g` and `clip_l` is SDXL's and its width is their sum; any other must have exactly one
    tensor. The name is the file's; a width that is not the model's puts the file on the skipped list.
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
    """The rule of ComfyUI's load_embed, in our words: the encoder's own key, else whatever comes first.

    `key` is "clip_l" in the tokenizers of SD1 and SD2 (SD2's sets none, so the default holds), and "clip_l" and
    "clip_g" in SDXL's two. Source: Comfy-Org/ComfyUI, comfy/sd1_clip.py, sd2_clip.py and sdxl_clip.py.
    """
    tensors = safetensors.torch.load(data)
    assert "string_to_param" not in tensors
    if key in tensors:
        return tensors[key]
    assert not any(name.startswith("bundle_emb.") for name in tensors)
    return next(iter(tensors.values()))


@pytest.mark.parametrize("family", FAMILIES)
def test_a1111_reads_it(family: Family) -> None:
    """Its rule finds all vectors, with the width that it compares with the model's."""
    original = concept(family, 2)
    found, width, vectors = read_as_a1111(export_concept(original, "a1111"))
    assert (width, vectors) == (sum(WIDTHS[family]), 2)
    tensors = found if family == "sdxl" else {"clip": found}
    for name, value in original.embeddings.items():
        assert tensors[name].numpy().tobytes() == value.tobytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_comfyui_reads_it(family: Family) -> None:
    """Its rule finds the right tensor for each text encoder."""
    original = concept(family, 2)
    data = export_concept(original, "comfyui")
    for name, value in original.embeddings.items():
        key = name if family == "sdxl" else "clip_l"
        assert read_as_comfyui(data, key).numpy().tobytes() == value.tobytes()


def test_a_file_is_called_as_prompts_of_other_programs_need_it() -> None:
    """ComfyUI cuts an embedding's name at `<`, and Windows has no such file names."""
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
    """diffusers', A1111's and ComfyUI's forms, in fp32 or fp16, become concepts of unknown origin."""
    loaded = load_concept(save(tensors), token="<toy>")
    assert (loaded.token, loaded.family) == ("<toy>", family)
    assert (loaded.base_model, loaded.fingerprint, loaded.provenance) == (None, None, None)
    assert all(value.dtype == np.float32 and value.ndim == 2 for value in loaded.embeddings.values())


def test_bfloat16_loads() -> None:
    """NumPy has no bfloat16; its numbers come out exactly."""
    values = torch.tensor([[1.5, -0.0078125, 3e30]], dtype=torch.bfloat16)
    loaded = load_concept(safetensors.torch.save({"<x>": values}))
    assert loaded.embeddings["clip"].tobytes() == values.float().numpy().tobytes()


def test_a_foreign_file_needs_a_token_unless_its_key_is_one() -> None:
    """`<cat-toy>` names itself; `emb_params` does not."""
    assert load_concept(save({"<cat-toy>": np.ones((1, 4), np.float32)})).token == "<cat-toy>"
    with pytest.raises(InvalidTokenError, match="names none; give one"):
        load_concept(save({"emb_params": np.ones((1, 4), np.float32)}))
    with pytest.raises(InvalidTokenError, match=r"token: 'dog' came; allowed: <name>"):
        load_concept(save({"emb_params": np.ones((1, 4), np.float32)}), token="dog")


def test_a_concept_can_be_renamed_when_it_is_loaded() -> None:
    """The given token wins; all else stays."""
    loaded = load_concept(export_concept(concept(), "a1111"), token="<other>")
    assert (loaded.token, loaded.base_model) == ("<other>", "emoji")


def pickles() -> dict[str, bytes]:
    """Pickles as torch and Python write them."""
    modern, legacy = io.BytesIO(), io.BytesIO()
    torch.save({"*": torch.ones(1, 4)}, modern)
    torch.save({"*": torch.ones(1, 4)}, legacy, _use_new_zipfile_serialization=False)
    plain = {f"protocol {number}": pickle.dumps({"*": [1.0]}, protocol=number) for number in range(2, 6)}
    return {"zip": modern.getvalue(), "legacy": legacy.getvalue(), **plain}


@pytest.mark.parametrize("kind", ["zip", "legacy", "protocol 2", "protocol 3", "protocol 4", "protocol 5"])
def test_a_pickle_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    """Whatever it is called, it is not opened; the message says what is allowed."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(pickles()[kind])
    with pytest.raises(InvalidArtifactError, match=r"is a pickle .* allowed: safetensors only") as error:
        load_concept(path)
    assert error.value.field == "concept"


def test_a_header_as_long_as_a_pickle_begins_is_no_pickle() -> None:
    """640 bytes of header start with 80 02, the mark of a pickle."""
    data = save({"<x>": np.ones((1, 4), np.float32)}, {"pad": "x"})
    data = save({"<x>": np.ones((1, 4), np.float32)}, {"pad": "x" * (641 - data[0])})
    assert data[:2] == b"\x80\x02"
    assert load_concept(data).token == "<x>"


@pytest.mark.parametrize(
    ("tensors", "fault"),
    [
        ({"<x>": np.ones((1, 4), np.float64)}, "dtype F64; allowed: F32, F16, BF16"),
        ({"<x>": np.ones((1, 4), np.int32)}, "dtype I32"),
        ({"<x>": np.array([[1.0, np.nan]], np.float32)}, "NaN or infinity"),
        ({"<x>": np.array([[1.0, np.inf]], np.float16)}, "NaN or infinity"),
        ({"<x>": np.ones((1, 2, 3), np.float32)}, "shape"),
        ({"<x>": np.ones((0, 4), np.float32)}, "shape"),
        ({"<x>": np.ones((76, 4), np.float32)}, "1 to 75 vectors"),
        ({"<x>": np.ones((1, 2), np.float32), "<y>": np.ones((1, 2), np.float32)}, "2 tensors .<x>, <y>."),
        ({}, "0 tensors"),
        (
            {"clip_l": np.ones((1, 4), np.float32), "clip_g": np.ones((2, 4), np.float32)},
            "equally many vectors",
        ),
    ],
)
def test_what_is_no_embedding_of_one_token_is_refused(tensors: dict[str, Any], fault: str) -> None:
    """Each message says what came and what is allowed."""
    with pytest.raises(InvalidArtifactError, match=fault):
        load_concept(save(tensors), token="<x>")


@settings(max_examples=100, deadline=None)
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused(cut: float) -> None:
    """Cut anywhere."""
    data = export_concept(concept(), "diffusers")
    with pytest.raises(InvalidArtifactError):
        load_concept(data[: int(cut * len(data))])


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_damaged_file_is_a_concept_or_a_typed_error(at: int, value: int) -> None:
    """Any changed byte: never another exception."""
    data = bytearray(export_concept(concept("sdxl"), "diffusers"))
    data[at % len(data)] = value
    with contextlib.suppress(InvalidArtifactError, InvalidTokenError):
        load_concept(bytes(data))


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 100_000_000) + b"{" + b" " * 1000,
        struct.pack("<Q", 400_000) + b'{"a":' * 80_000,
        b"",
        b"(dp0\n.",
        bytes(4_000_001),
    ],
)
def test_hostile_headers_are_refused(data: bytes) -> None:
    """Huge lengths, deep nesting, nothing at all, and files that are too long."""
    with pytest.raises(InvalidArtifactError):
        load_concept(data)


def test_our_own_header_is_checked() -> None:
    """A header that says less, or other things, than it must is named."""
    values = {"<x>": np.ones((1, 4), np.float32)}
    with pytest.raises(InvalidArtifactError, match="header's kind is damaged"):
        load_concept(
            save(
                values,
                {
                    "zoodip": '{"token": "<x>", "family": "sd1", "kind": "?", "base_model": null, '
                    '"fingerprint": null, "provenance": null}'
                },
            )
        )
    with pytest.raises(InvalidArtifactError, match="header's zoodip is damaged"):
        load_concept(save(values, {"zoodip": "[" * 10_000}))
    with pytest.raises(InvalidArtifactError, match="allowed for sdxl: clip_l, clip_g"):
        load_concept(
            save(
                values,
                {
                    "zoodip": '{"token": "<x>", "family": "sdxl", "kind": "object", "base_model": null, '
                    '"fingerprint": null, "provenance": null}'
                },
            )
        )


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The message holds the path."""
    with pytest.raises(InvalidArtifactError, match=r"nowhere\.safetensors cannot be read: No such file"):
        load_concept(tmp_path / "nowhere.safetensors")


def test_a_concept_must_make_sense() -> None:
    """Wrong encoders, shapes, numbers and tokens never become a concept."""
    row = np.ones((1, 4), np.float32)
    with pytest.raises(InvalidArtifactError, match="allowed for sd1: clip"):
        Concept("<x>", "sd1", {"clip_l": row})
    with pytest.raises(InvalidArtifactError, match="fp32"):
        Concept("<x>", "sd1", {"clip": row.astype(np.float16)})
    with pytest.raises(InvalidArtifactError, match="finite"):
        Concept("<x>", "sd1", {"clip": row * np.nan})
    with pytest.raises(InvalidArtifactError, match="shapes"):
        Concept("<x>", "sd1", {"clip": row[0]})
    with pytest.raises(InvalidTokenError):
        Concept("dog", "sd1", {"clip": row})


def test_the_wrong_base_model_is_an_error_that_names_both() -> None:
    """Width first, then fingerprint; without a fingerprint the width alone decides."""
    learned = concept("sdxl")
    check_compatible(learned, "ab" * 32, (32, 64))
    with pytest.raises(ModelMismatchError, match=r"width 32 \+ 64; the base model takes 32") as error:
        check_compatible(learned, "ab" * 32, (32,))
    assert error.value.field == "concept"
    with pytest.raises(
        ModelMismatchError, match=f"learned on emoji .{'ab' * 32}.; this base model is {'cd' * 32}"
    ):
        check_compatible(learned, "cd" * 32, (32, 64))
    check_compatible(concept("sdxl", fingerprint=None), "cd" * 32, (32, 64))


def test_a_failed_write_leaves_the_old_file_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up while the new concept is written."""
    path = tmp_path / "x.safetensors"
    save_concept(concept(vectors=1), path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match=r"x\.safetensors could not be written: No space left on device"):
        save_concept(concept(vectors=2), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    """A file where the folder should be; the error may pass, so it can be tried again."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as error:
        save_concept(concept(), tmp_path / "file" / "x.safetensors")
    assert error.value.retryable
