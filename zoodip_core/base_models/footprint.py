"""Estimates the memory of a base model's weights from the headers of its files."""

from __future__ import annotations

import math
from pathlib import Path

from safetensors import SafetensorError, safe_open

from zoodip_core.base_models.weight_files import weight_files
from zoodip_core.config import PartPrecisions, Precision
from zoodip_core.errors import InvalidModelError

_BYTES_PER_WEIGHT: dict[Precision, float] = {"int8": 1.01, "nf4": 0.56, "fp16": 2.0, "fp32": 4.0}


def weights_mb(folder: Path, precisions: PartPrecisions) -> float:
    """Return the memory of all networks of a pipeline folder, each at its precision, in 10⁶ bytes.

    Raises:
        InvalidModelError: weights are missing, damaged, or not safetensors.
    """
    # in fp16, text encoders are stored in the fp32 that they compute in
    text: Precision = "fp32" if precisions.text_encoder == "fp16" else precisions.text_encoder
    parts: dict[str, Precision] = {
        "unet": precisions.unet,
        "vae": precisions.vae,
        "text_encoder": text,
        "text_encoder_2": text,
    }
    size_bytes = sum(
        _parameter_count(file) * _BYTES_PER_WEIGHT[precision]
        for part, precision in parts.items()
        if (folder / part).is_dir()
        for file in weight_files(folder / part)
    )
    return size_bytes / 1e6


def _parameter_count(file: Path) -> int:
    """Return the number of parameters in a safetensors file, from its header."""
    try:
        with safe_open(file, framework="numpy") as opened:
            return sum(math.prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InvalidModelError(f"base_model: {file} is damaged: {error}") from error
