"""The partial result of a calibration: what it belongs to, and how a repeated calibration reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from zoodip_core.base_models.fingerprint import file_hash
from zoodip_core.base_models.weight_files import weight_files
from zoodip_core.calibration.options import CalibrationOptions
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.errors import InvalidCheckpointError
from zoodip_core.personalization.checkpoint import IDENTITY, read_state


def identity(bundle: Bundle, options: CalibrationOptions, generation: Mapping[str, int | float]) -> str:
    """Return everything that a continued calibration must share with the interrupted one."""
    vae = [file_hash(file) for file in weight_files(bundle.custom_vae or bundle.folder / "vae", "vae")]
    facts = [bundle.weights_fingerprint, vae, bundle.precision, asdict(options), dict(generation)]
    return json.dumps(facts, sort_keys=True)


def load_partial_result(path: Path, *, identity: str) -> dict[str, Tensor]:
    """Read the learned batches; none if the file is missing.

    Raises:
        InvalidCheckpointError: the file is damaged, or belongs to another calibration.
    """
    if not path.is_file():
        return {}
    learned, header = read_state(path)
    if header.get(IDENTITY) != identity:
        raise InvalidCheckpointError.mismatch(
            "out",
            got=f"{path}, a partial result of other options or of another base model",
            expected="the options that it was made with; or delete this file to start again",
        )
    return learned
