"""Estimates the memory of a base model's weights from the headers of its files."""

from __future__ import annotations

from pathlib import Path

from zoodip_core.base_models.safety_checker import safety_checker_files, ships_safety_checker
from zoodip_core.base_models.tensor_files import parameter_count
from zoodip_core.base_models.weight_files import weight_files
from zoodip_core.config import PartPrecisions, Precision

_BYTES_PER_WEIGHT: dict[Precision, float] = {"int8": 1.01, "nf4": 0.56, "fp16": 2.0, "fp32": 4.0}
_QUANTIZED: frozenset[Precision] = frozenset(("int8", "nf4"))
_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")


def parameter_counts(folder: Path) -> dict[str, int]:
    """Return the number of parameters of each network of a pipeline folder.

    Raises:
        InvalidModelError: weights are missing, damaged, or not safetensors.
    """
    parts = [part for part in _PARTS if (folder / part).is_dir()]
    return {part: sum(parameter_count(file) for file in weight_files(folder / part)) for part in parts}


def dequantized_mb(folder: Path) -> float:
    """Return the memory of U-Net and text encoders in fp32, in 10⁶ bytes.

    Raises:
        InvalidModelError: weights are missing, damaged, or not safetensors.
    """
    counts = parameter_counts(folder)
    return sum(count for part, count in counts.items() if part != "vae") * _BYTES_PER_WEIGHT["fp32"] / 1e6


def keeps_dequantized(folder: Path, precisions: PartPrecisions, budget_mb: int) -> bool:
    """Return whether a budget covers the dequantized weights of U-Net and text encoders.

    Args:
        folder: pipeline folder.
        precisions: how the weights of each part are stored; without quantized weights the answer is false.
        budget_mb: budget in 10⁶ bytes.

    Raises:
        InvalidModelError: weights are missing, damaged, or not safetensors.
    """
    is_quantized = not _QUANTIZED.isdisjoint((precisions.unet, precisions.text_encoder))
    return bool(budget_mb) and is_quantized and dequantized_mb(folder) <= budget_mb


def weights_mb(
    folder: Path,
    precisions: PartPrecisions,
    *,
    safety_checker: bool = False,
    dequantized_budget_mb: int = 0,
) -> float:
    """Return the memory of all networks of a pipeline folder, each at its precision, in 10⁶ bytes.

    Args:
        folder: pipeline folder.
        precisions: how the weights of each part are stored.
        safety_checker: whether its safety checker is loaded, too. It counts as fp32; on CUDA it is fp16.
        dequantized_budget_mb: budget for dequantized weights. They count as fp32; on CUDA they have 16 bits.

    Raises:
        InvalidModelError: weights are missing, damaged, or not safetensors.
    """
    if keeps_dequantized(folder, precisions, dequantized_budget_mb):
        precisions = _dequantized(precisions)
    # In fp16, text encoders are stored in the fp32 that they compute in.
    text: Precision = "fp32" if precisions.text_encoder == "fp16" else precisions.text_encoder
    chosen: dict[str, Precision] = {"unet": precisions.unet, "vae": precisions.vae}
    counts = parameter_counts(folder).items()
    weights = sum(count * _BYTES_PER_WEIGHT[chosen.get(part, text)] for part, count in counts)
    if safety_checker and ships_safety_checker(folder):
        files = safety_checker_files(folder).weights
        weights += sum(parameter_count(file) for file in files) * _BYTES_PER_WEIGHT["fp32"]
    return weights / 1e6


def _dequantized(precisions: PartPrecisions) -> PartPrecisions:
    """Return the precisions with which weights occupy memory after `keep_dequantized`."""
    unet: Precision = "fp32" if precisions.unet in _QUANTIZED else precisions.unet
    text: Precision = "fp32" if precisions.text_encoder in _QUANTIZED else precisions.text_encoder
    return PartPrecisions(unet, text, precisions.vae)
