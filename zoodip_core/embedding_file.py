"""Reads and writes safetensors files with fp32 embeddings and header metadata. Never pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from zoodip_core.errors import InvalidArtifactError

Vectors = NDArray[np.float32]  # [vectors, width]

MAX_FILE_BYTES = 4_000_000  # 75 vectors, CLIP's longest text, in both of SDXL's widths take 0.6 MB
MAX_VECTORS = 75
_LENGTH_BYTES = 8
_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # .pt and .bin files


def read_embedding_file(source: Path | bytes) -> tuple[dict[str, Vectors], dict[str, str]]:
    """Return the embeddings by key, as fp32 [vectors, width], and the metadata of the header.

    Args:
        source: a file or its bytes.

    Raises:
        InvalidArtifactError: the file is missing, a pickle, not safetensors, truncated or too large, or its numbers
            have another dtype or are not finite.
    """
    data = source if isinstance(source, bytes) else _read(source)
    if len(data) > MAX_FILE_BYTES:
        raise invalid_artifact(f"a file of {len(data):,} bytes", f"at most {MAX_FILE_BYTES:,} bytes")
    header_bytes = int.from_bytes(data[:_LENGTH_BYTES], "little")
    has_header = data[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{"
    if not has_header or _LENGTH_BYTES + header_bytes > len(data):
        if data.startswith(_PICKLES):
            raise invalid_artifact("a pickle (.pt, .bin), which can run code", "a safetensors file")
        raise invalid_artifact(
            "a truncated file" if has_header else "another kind of file", "a safetensors file"
        )
    try:
        tensors = dict(deserialize(data))  # type: ignore[no-untyped-call]
        header = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + header_bytes])
    except (SafetensorError, ValueError, RecursionError) as error:
        raise invalid_artifact(f"a truncated or damaged file ({error})", "a safetensors file") from error
    return {key: _vectors(key, tensor) for key, tensor in tensors.items()}, header.get("__metadata__", {})


def write_embedding_file(embeddings: Mapping[str, NDArray[np.float32]], metadata: dict[str, str]) -> bytes:
    """Return the content of a safetensors file in fp32."""
    return bytes(save({key: np.ascontiguousarray(value) for key, value in embeddings.items()}, metadata))


def invalid_artifact(got: str, expected: str) -> InvalidArtifactError:
    """Return the error for a bad concept file."""
    return InvalidArtifactError.mismatch("concept", got=got, expected=expected)


def _read(path: Path) -> bytes:
    """Read a file, but not much more than the largest allowed one."""
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise invalid_artifact(f"{path} ({error.strerror})", "a readable file") from error


def _vectors(key: str, tensor: dict[str, Any]) -> Vectors:
    """Decode one tensor to fp32 [vectors, width]. A single row becomes one vector."""
    name, shape = tensor["dtype"], tensor["shape"]
    if name not in _DTYPES:
        raise invalid_artifact(f"{key!r} of dtype {name}", f"one of {', '.join(_DTYPES)}")
    numbers = np.frombuffer(tensor["data"], _DTYPES[name])
    if name == "BF16":  # the upper half of an fp32 number
        numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
    vectors: Vectors = np.array(numbers, dtype=np.float32).reshape(shape)
    if vectors.ndim == 1:
        vectors = vectors[None]
    if vectors.ndim != 2 or not 1 <= len(vectors) <= MAX_VECTORS or vectors.shape[1] < 1:
        raise invalid_artifact(
            f"{key!r} of shape {shape}", f"[vectors, width] with 1 to {MAX_VECTORS} vectors"
        )
    if not np.isfinite(vectors).all():
        raise invalid_artifact(f"{key!r} with NaN or infinity", "finite numbers")
    return vectors
