"""What a base model's weights will take in memory, told from the headers of its files."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

from zoodip_core.fingerprint import weight_files

_BYTES_PER_WEIGHT = {"int8": 1.01, "nf4": 0.56, "fp16": 2.0, "fp32": 4.0}
_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")


def weights_mb(folder: Path, precision: str) -> float:
    """Memory of all networks of a pipeline folder at that precision, in 10⁶ bytes.

    Raises:
        InvalidModelError: weights are missing, or not in safetensors form.
    """
    parts = [folder / part for part in _PARTS if (folder / part).is_dir()]
    weights = sum(_count(file) for part in parts for file in weight_files(part))
    return weights * _BYTES_PER_WEIGHT[precision] / 1e6


def _count(file: Path) -> int:
    """Numbers in a safetensors file, by its header."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
