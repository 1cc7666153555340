"""Concept files: round trips, compatibility with base models, and atomic writes."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import save

from tests.tooling.concepts import FAMILIES, FORMS, assert_same, concept
from zoodip_core.artifact import (
    Concept,
    Form,
    export_concept,
    load_concept,
    read_concept_file,
    save_concept,
)
from zoodip_core.base_models.families import Family
from zoodip_core.compatibility import check_compatible
from zoodip_core.errors import InvalidArtifactError, InvalidTokenError, ModelMismatchError, StorageError


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_form_loads_as_the_complete_concept(family: Family, form: Form) -> None:
    """An export for any program loads as the complete concept with its provenance."""
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
def test_a_round_trip_keeps_every_bit(values: np.ndarray[Any, Any], token: str, words: str) -> None:
    """Any finite numbers, token and header text survive, and equal concepts give equal bytes."""
    original = Concept(token, "sd1", {"clip": values}, base_model=words)
    data = export_concept(original, "diffusers")
    assert_same(load_concept(data), original)
    assert export_concept(load_concept(data), "diffusers") == data


def test_the_file_is_fp32_with_one_key_and_provenance(tmp_path: Path) -> None:
    """The token is the only key, and the header contains the provenance."""
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


def test_a_damaged_header_is_refused() -> None:
    """The message names the field of the header that is missing or wrong."""
    values = {"<x>": np.ones((1, 4), np.float32)}
    with pytest.raises(InvalidArtifactError, match=r"a damaged header \(kind: "):
        load_concept(
            save(
                values,
                {
                    "zoodip": '{"token": "<x>", "family": "sd1", "kind": "?", "base_model": null, '
                    '"fingerprint": null, "provenance": null}'
                },
            )
        )
    with pytest.raises(InvalidArtifactError, match=r"a damaged header \(zoodip: "):
        load_concept(save(values, {"zoodip": "[" * 10_000}))
    with pytest.raises(InvalidArtifactError, match="expected clip_l, clip_g for sdxl"):
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
    """The message contains the path."""
    with pytest.raises(
        InvalidArtifactError,
        match=r"nowhere\.safetensors \(No such file or directory\); expected a readable file",
    ):
        load_concept(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize(
    ("key", "stem", "token"),
    [
        ("<cat-toy>", "x", "<cat-toy>"),
        ("<Cat-Toy>", "x", "<cat-toy>"),
        ("Cat Toy", "x", "<cat-toy>"),
        ("cat.toy", "x", "<cat-toy>"),
        ("emb_params", "my-dog", "<my-dog>"),
        ("*", "Style_v1.2", "<style_v1-2>"),
    ],
)
def test_token_of_a_file_of_another_program(tmp_path: Path, key: str, stem: str, token: str) -> None:
    """The key gives the token in its normal spelling; a file without a token is named after itself."""
    path = tmp_path / f"{stem}.safetensors"
    path.write_bytes(save({key: np.ones((1, 4), np.float32)}))
    assert load_concept(path).token == token
    assert load_concept(path, token="<other>").token == "<other>"


def test_a_file_that_gives_no_token_can_be_read(tmp_path: Path) -> None:
    """Such a file has content that can be shown, but is a concept only with a token."""
    path = tmp_path / "\u732b.safetensors"
    path.write_bytes(save({"emb_params": np.ones((2, 4), np.float32)}))
    file = read_concept_file(path)
    assert (file.token, file.header.token, file.header.family) == (None, None, "sd1")
    assert file.concept("<cat>").vectors == 2
    with pytest.raises(InvalidTokenError, match="token: got none in the file"):
        load_concept(path)


def test_a_concept_validates_its_fields() -> None:
    """Wrong encoders, shapes, numbers and tokens raise an error."""
    row = np.ones((1, 4), np.float32)
    with pytest.raises(InvalidArtifactError, match="got embeddings of clip_l; expected clip for sd1"):
        Concept("<x>", "sd1", {"clip_l": row})
    with pytest.raises(InvalidArtifactError, match="fp32"):
        Concept("<x>", "sd1", {"clip": row.astype(np.float16)})
    with pytest.raises(InvalidArtifactError, match="finite"):
        Concept("<x>", "sd1", {"clip": row * np.nan})
    with pytest.raises(InvalidArtifactError, match="shapes"):
        Concept("<x>", "sd1", {"clip": row[0]})
    with pytest.raises(InvalidTokenError):
        Concept("dog", "sd1", {"clip": row})


def test_the_wrong_base_model_raises_an_error_that_names_both() -> None:
    """Widths are compared first, then fingerprints. Without a fingerprint, only the widths are compared."""
    learned = concept("sdxl")
    check_compatible(learned, "ab" * 32, (32, 64))
    with pytest.raises(
        ModelMismatchError, match=r"got <my-dog> of width 32 \+ 64; expected width 32 of the"
    ) as error:
        check_compatible(learned, "ab" * 32, (32,))
    assert error.value.field == "concept"
    with pytest.raises(
        ModelMismatchError, match=f"of emoji .{'ab' * 32}.; expected the base model {'cd' * 32}"
    ):
        check_compatible(learned, "cd" * 32, (32, 64))
    check_compatible(concept("sdxl", fingerprint=None), "cd" * 32, (32, 64))


def test_the_same_weights_in_another_file_match() -> None:
    """Either fingerprint is enough: that of the files, or that of the weights."""
    learned = replace(concept("sdxl"), weights_fingerprint="ef" * 32)
    widths = (32, 64)
    assert check_compatible(learned, "cd" * 32, widths, weights_fingerprint="ef" * 32) is None
    assert check_compatible(learned, "ab" * 32, widths, weights_fingerprint="00" * 32) is None
    for one, weights in ((learned, "00" * 32), (learned, None), (concept("sdxl"), "ef" * 32)):
        with pytest.raises(ModelMismatchError, match="allow_model_mismatch accepts another one"):
            check_compatible(one, "cd" * 32, widths, weights_fingerprint=weights)
    assert load_concept(export_concept(learned, "comfyui")).weights_fingerprint == "ef" * 32


def test_another_model_of_the_same_width_is_a_warning_on_request() -> None:
    """A concept of a fine-tune is accepted; one of another width is not."""
    warning = check_compatible(concept("sdxl"), "cd" * 32, (32, 64), allow_mismatch=True)
    assert warning is not None
    assert (warning.code, warning.field) == ("model_mismatch", "concept")
    assert "<my-dog> was learned on emoji (abab" in warning.message
    with pytest.raises(ModelMismatchError, match="of width 32"):
        check_compatible(concept("sdxl"), "cd" * 32, (32,), allow_mismatch=True)


def test_a_failed_write_leaves_the_old_file_and_no_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk during the write keeps the old concept."""
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


def test_an_unwritable_path_raises_a_storage_error(tmp_path: Path) -> None:
    """A file in place of the folder raises a retryable error."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as error:
        save_concept(concept(), tmp_path / "file" / "x.safetensors")
    assert error.value.retryable
