"""Facts about a base model for people: family, noise process, sizes, memory, license and fingerprint."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoodip_core.base_models.families import Family, detect_family, read_config
from zoodip_core.base_models.fingerprint import fingerprint
from zoodip_core.base_models.footprint import dequantized_mb, parameter_counts, weights_mb
from zoodip_core.base_models.image_size import native_side_px
from zoodip_core.base_models.safetensors_header import read_header
from zoodip_core.base_models.safety_checker import ships_safety_checker
from zoodip_core.base_models.tensor_files import MAP_NAME, data_file
from zoodip_core.base_models.weight_files import weight_files
from zoodip_core.config import PRECISIONS, PartPrecisions

NOTES = "_zoodip"
"""Key in model_index.json of facts about a checkpoint in one file that its folder does not show otherwise."""


@dataclass(frozen=True)
class ModelFacts:
    """Facts about the files of a base model.

    Attributes:
        family: model family.
        prediction_type: what the U-Net predicts.
        side_px: side of the training images in pixels.
        parameters: part → number of parameters.
        memory_mb: precision → memory of all weights in 10⁶ bytes.
        dequantized_mb: memory of U-Net and text encoders in fp32, the least budget that keeps them dequantized.
        license: license file, or license that the checkpoint states; None if there is none.
        checkpoint: the file of a checkpoint in one file, else None.
        fingerprint: fingerprint of the files.
        safety_checker: whether the folder ships a safety checker.
        notes: facts that only the checkpoint in one file shows, such as which weights are used.
    """

    family: Family
    prediction_type: str
    side_px: int
    parameters: dict[str, int]
    memory_mb: dict[str, int]
    dequantized_mb: int
    license: str | None
    fingerprint: str
    checkpoint: Path | None
    safety_checker: bool
    notes: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as plain values, in the order in which they are shown."""
        total = {"total": sum(self.parameters.values())}
        return {
            "family": self.family,
            "prediction_type": self.prediction_type,
            "default_size": f"{self.side_px} × {self.side_px}",
            "parameters": total | self.parameters,
            "memory_mb": self.memory_mb,
            "dequantized_mb": self.dequantized_mb,
            "license": self.license,
            "fingerprint": self.fingerprint,
            "checkpoint": None if self.checkpoint is None else str(self.checkpoint),
            "safety_checker": self.safety_checker,
            **self.notes,
        }


def read_model_facts(folder: Path) -> ModelFacts:
    """Read the facts of a pipeline folder.

    Raises:
        InvalidModelError: the folder is incomplete, or the model is not supported.
    """
    family = detect_family(folder)
    scheduler = read_config(folder, "scheduler/scheduler_config.json")
    unet = weight_files(folder / "unet")[0]
    checkpoint = data_file(unet) if unet.name == MAP_NAME else None
    return ModelFacts(
        family=family,
        prediction_type=str(scheduler.get("prediction_type", "epsilon")),
        side_px=native_side_px(folder),
        parameters=parameter_counts(folder),
        memory_mb={
            precision: round(weights_mb(folder, PartPrecisions.of(precision))) for precision in PRECISIONS
        },
        dequantized_mb=math.ceil(dequantized_mb(folder)),
        license=_license(folder, checkpoint),
        fingerprint=fingerprint(folder),
        checkpoint=checkpoint,
        safety_checker=ships_safety_checker(folder),
        notes=dict(read_config(folder, "model_index.json").get(NOTES, {})),
    )


def _license(folder: Path, checkpoint: Path | None) -> str | None:
    """Return the license file of the folder, or the license that the checkpoint states."""
    files = sorted(file for file in folder.glob("LICENSE*") if file.is_file())
    if files:
        return str(files[0])
    return None if checkpoint is None else read_header(checkpoint).metadata.get("modelspec.license")
