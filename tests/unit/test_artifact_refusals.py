"""Refusal of invalid concept files: pickles, truncated and damaged files, hostile headers."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from tests.tooling.concepts import concept
from zoodip_core.artifact import (
    export_concept,
    load_concept,
)
from zoodip_core.errors import InvalidArtifactError, InvalidTokenError


def pickles() -> dict[str, bytes]:
    """Return pickles of torch and Python by format."""
    modern, legacy = io.BytesIO(), io.BytesIO()
    torch.save({"*": torch.ones(1, 4)}, modern)
    torch.save({"*": torch.ones(1, 4)}, legacy, _use_new_zipfile_serialization=False)
    plain = {f"protocol {number}": pickle.dumps({"*": [1.0]}, protocol=number) for number in range(2, 6)}
    return {"zip": modern.getvalue(), "legacy": legacy.getvalue(), **plain}


@pytest.mark.parametrize("kind", ["zip", "legacy", "protocol 2", "protocol 3", "protocol 4", "protocol 5"])
def test_a_pickle_is_refused(tmp_path: Path, kind: str) -> None:
    """A pickle is never opened, whatever its name; the message names the allowed format."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(pickles()[kind])
    with pytest.raises(InvalidArtifactError, match=r"got a pickle .* expected a safetensors file") as error:
        load_concept(path)
    assert error.value.field == "concept"


def test_a_header_length_that_looks_like_a_pickle_loads() -> None:
    """The length of a 640-byte header starts with 80 02, the magic bytes of a pickle."""
    data = save({"<x>": np.ones((1, 4), np.float32)}, {"pad": "x"})
    data = save({"<x>": np.ones((1, 4), np.float32)}, {"pad": "x" * (641 - data[0])})
    assert data[:2] == b"\x80\x02"
    assert load_concept(data).token == "<x>"


@pytest.mark.parametrize(
    ("tensors", "fault"),
    [
        ({"<x>": np.ones((1, 4), np.float64)}, "dtype F64; expected one of F32, F16, BF16"),
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
            "the same number of vectors in each",
        ),
    ],
)
def test_a_file_without_one_valid_embedding_is_refused(tensors: dict[str, Any], fault: str) -> None:
    """Each message names the fault and the expectation."""
    with pytest.raises(InvalidArtifactError, match=fault):
        load_concept(save(tensors), token="<x>")


@settings(max_examples=100, deadline=None)
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused(cut: float) -> None:
    """A file that is truncated at any byte raises a typed error."""
    data = export_concept(concept(), "diffusers")
    with pytest.raises(InvalidArtifactError):
        load_concept(data[: int(cut * len(data))])


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_damaged_file_is_a_concept_or_a_typed_error(at: int, value: int) -> None:
    """A changed byte never raises another exception."""
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
    """Huge lengths, deep nesting, empty files and oversized files raise a typed error."""
    with pytest.raises(InvalidArtifactError):
        load_concept(data)
