"""Reads values of stored tensors without torch."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from zoodip_core.base_models.safetensors_header import ITEM_BYTES
from zoodip_core.base_models.tensor_files import StoredTensor
from zoodip_core.errors import InvalidModelError

FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "F8_E4M3": "u1", "F8_E5M2": "u1"}
"""Data types of weights → numpy's data type of the same size."""


def _e4m3_values() -> NDArray[np.float32]:
    """Return the number of each byte: a sign, four bits of exponent with bias 7, three bits of mantissa.

    Source: OCP 8-bit Floating Point Specification (OFP8) 1.0; it has no infinity.
    """
    byte = np.arange(256)
    exponent, mantissa = byte >> 3 & 15, byte & 7
    size = np.where(exponent == 0, mantissa * 2.0**-9, (8 + mantissa) * 2.0 ** (exponent - 10))
    size[byte & 127 == 127] = np.nan
    return np.where(byte < 128, size, -size).astype(np.float32)


_E4M3 = _e4m3_values()


def read_values(tensor: StoredTensor, count: int | None = None) -> NDArray[np.float32]:
    """Return the first values of a tensor in the row-major order of its view, in fp32.

    Args:
        tensor: a stored tensor of floating-point numbers.
        count: number of values; None, or more than there are, for all.

    Raises:
        InvalidModelError: the tensor does not hold floating-point numbers, or the file cannot be read.
    """
    size = math.prod(tensor.shape)
    count = size if count is None else min(count, size)
    if tensor.place.view == "transposed":  # the first values lie in all rows
        stored = _read(tensor, 0, size).reshape(tensor.stored.shape)
        return np.ascontiguousarray(stored.T).reshape(-1)[:count]
    row = size // tensor.shape[0] if tensor.shape and tensor.shape[0] else 0
    return _read(tensor, (tensor.rows.start or 0) * row, count)


def _read(tensor: StoredTensor, first: int, count: int) -> NDArray[np.float32]:
    dtype = tensor.stored.dtype
    if dtype not in FLOATS:
        raise InvalidModelError.mismatch(
            "base_model",
            got=f"{tensor.place.key} as {dtype} in {tensor.path}",
            expected=f"one of {', '.join(FLOATS)}",
        )
    offset = tensor.stored.start + first * ITEM_BYTES[dtype]
    try:
        values = np.fromfile(tensor.path, FLOATS[dtype], count, offset=offset)
    except OSError as error:
        raise InvalidModelError(f"base_model: {tensor.path} cannot be read: {error.strerror}") from error
    if dtype == "BF16":  # the upper half of an fp32 number
        return (values.astype(np.uint32) << 16).view(np.float32)
    if dtype == "F8_E5M2":  # the upper half of an fp16 number
        return (values.astype(np.uint16) << 8).view(np.float16).astype(np.float32)
    with np.errstate(over="ignore"):
        found: NDArray[np.float32] = _E4M3[values] if dtype == "F8_E4M3" else values.astype(np.float32)
    return found
