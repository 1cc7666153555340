"""Reads and checks the header of a safetensors file without reading a tensor."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from zoodip_core.errors import InvalidModelError

ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
"""Data type in a header → bytes of one value."""

_EXPECTED = "a complete .safetensors file"
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # limit of the safetensors library
_FORMATS = (  # first bytes of a file → what the file is
    (b"PK\x03\x04", "a pickle or another zip archive"),
    (b"\x80", "a pickle"),
    (b"GGUF", "a GGUF file"),
    (b"version https://git-lfs", "a Git LFS pointer instead of the file that it names"),
    (b"<", "an HTML page or XML text"),
)


@dataclass(frozen=True)
class TensorInfo:
    """Shape, data type and position of a tensor in a file."""

    shape: tuple[int, ...]
    dtype: str
    start: int  # bytes from the start of the file


@dataclass(frozen=True)
class Header:
    """Tensors of a file by key, in file order, and its metadata."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """Read the header of a safetensors file and check it against the size of the file.

    Raises:
        InvalidModelError: the file has another format, is cut off or changed, or cannot be read.
    """
    if path.suffix.lower() != ".safetensors":  # other formats, such as pickle, can run code
        raise InvalidModelError.mismatch("base_model", got=path, expected="a .safetensors file")
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            values, data_start = _read_json(path, stream, size)
    except OSError as error:
        raise _fault(path, f"cannot be read ({error.strerror})") from error
    metadata = values.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise _fault(path, "has a header whose __metadata__ is not an object")
    tensors: dict[str, TensorInfo] = {}
    end = 0
    for key, entry in sorted(values.items(), key=lambda item: _offsets(path, *item)):
        start, stop = _offsets(path, key, entry)
        tensors[key] = TensorInfo(*_checked(path, key, entry, stop - start), data_start + start)
        if start != end:
            raise _fault(
                path, f"has a header that puts {key} at byte {start:,}, but the tensor before ends at {end:,}"
            )
        end = stop
    if data_start + end != size:
        raise _fault(
            path, f"has {size:,} bytes, but its header describes {data_start + end:,}: cut off or changed"
        )
    return Header(tensors, {str(key): str(value) for key, value in metadata.items()})


def _read_json(path: Path, stream: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """Return the JSON of the header, and where the data of the tensors starts."""
    opening = stream.read(32)
    length = int.from_bytes(opening[:_LENGTH_BYTES], "little")
    if opening[_LENGTH_BYTES : _LENGTH_BYTES + 1] != b"{" or length > _MAX_HEADER_BYTES:
        kinds = (name for magic, name in _FORMATS if opening.startswith(magic))
        raise _fault(
            path, f"is {next(kinds, 'of another format: it does not start with a safetensors header')}"
        )
    if _LENGTH_BYTES + length > size:
        raise _fault(path, f"has {size:,} bytes, but a header of {length:,}: cut off or changed")
    stream.seek(_LENGTH_BYTES)
    try:
        values = json.loads(stream.read(length))
    except (ValueError, RecursionError) as error:
        raise _fault(path, "does not start with a safetensors header") from error
    if not isinstance(values, dict):
        raise _fault(path, "does not start with a safetensors header")
    return values, _LENGTH_BYTES + length


def _offsets(path: Path, key: str, entry: object) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_size(number) for number in offsets):
        raise _fault(path, f"has a header without data_offsets for {key}")
    return offsets[0], offsets[1]


def _checked(path: Path, key: str, entry: dict[str, Any], stored: int) -> tuple[tuple[int, ...], str]:
    """Return shape and data type of a tensor, after checking them against its number of bytes."""
    shape, dtype = entry.get("shape"), entry.get("dtype")
    if dtype not in ITEM_BYTES:
        raise _fault(path, f"holds {key} as {dtype!r}, which is not supported")
    if not isinstance(shape, list) or not all(_is_size(number) for number in shape):
        raise _fault(path, f"has a header without a shape for {key}")
    needed = math.prod(shape) * ITEM_BYTES[dtype]
    if needed != stored:
        raise _fault(path, f"has a header that gives {key} {stored:,} bytes, but its shape needs {needed:,}")
    return tuple(shape), dtype


def _is_size(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0


def _fault(path: Path, found: str) -> InvalidModelError:
    return InvalidModelError(f"base_model: {path} {found}; expected {_EXPECTED}", field="base_model")
