"""Detects the prediction type of a checkpoint in one file, which has no scheduler configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from zoodip_core.base_models.families import Family
from zoodip_core.base_models.safetensors_header import Header
from zoodip_core.base_models.single_file.recognize import UNET
from zoodip_core.base_models.tensor_files import Place, StoredTensor
from zoodip_core.base_models.tensor_values import read_values
from zoodip_core.errors import InvalidModelError

PredictionType = Literal["epsilon", "v_prediction"]

_STATED: dict[str, PredictionType] = {
    "epsilon": "epsilon",
    "v": "v_prediction",
    "v_prediction": "v_prediction",
}
_V_DEVIATION = 0.09
"""Standard deviation of the last attention's first norm bias that separates SD2's two prediction types: training
with v-prediction moved it further from zero."""


@dataclass(frozen=True)
class NoiseProcess:
    """Prediction type of the U-Net, whether the last timestep is pure noise, and how this was found."""

    prediction_type: PredictionType
    zero_snr: bool
    found: str


def detect_noise_process(
    path: Path, header: Header, family: Family, given: PredictionType | None
) -> NoiseProcess:
    """Return the noise process of a checkpoint.

    A given prediction type has precedence. Otherwise the metadata decides, then the marker tensor `v_pred`. For SD2,
    which was published with both types, the weights decide. SD1 and SDXL predict the noise.

    Raises:
        InvalidModelError: the metadata states a prediction type that is not supported.
    """
    zero_snr = "ztsnr" in header.tensors
    if given is not None:
        return NoiseProcess(given, zero_snr, "--prediction-type")
    stated = header.metadata.get("modelspec.prediction_type")
    if stated is not None:
        if stated not in _STATED:
            raise InvalidModelError.mismatch(
                "base_model",
                got=f"{path}, whose metadata states the prediction type {stated!r}",
                expected="epsilon or v",
            )
        return NoiseProcess(_STATED[stated], zero_snr, "the metadata of the file")
    if "v_pred" in header.tensors:
        return NoiseProcess("v_prediction", zero_snr, "the tensor v_pred")
    if family != "sd2":
        return NoiseProcess("epsilon", zero_snr, f"the family {family}")
    return NoiseProcess(
        _guess(path, header), zero_snr, "a guess from the weights; --prediction-type overrides it"
    )


def _guess(path: Path, header: Header) -> PredictionType:
    """Guess the prediction type of SD2 from the spread of one bias."""
    ending = ".1.transformer_blocks.0.norm1.bias"
    keys = [key for key in header.tensors if key.startswith(f"{UNET}output_blocks.") and key.endswith(ending)]
    if not keys:
        return "epsilon"
    key = max(keys, key=lambda key: int(key.removeprefix(UNET).split(".")[1]))
    bias = read_values(StoredTensor(path, key, Place(key), header.tensors[key]))
    return "v_prediction" if float(np.std(bias)) > _V_DEVIATION else "epsilon"
