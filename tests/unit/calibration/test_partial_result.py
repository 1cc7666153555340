"""The partial result of a calibration: read by the same calibration only."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from zoodip_core.calibration.options import CalibrationOptions
from zoodip_core.calibration.partial_result import identity, load_partial_result
from zoodip_core.config import PartPrecisions
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.errors import InvalidCheckpointError
from zoodip_core.personalization.checkpoint import save_checkpoint

GENERATION: Mapping[str, int | float] = {"steps": 20, "guidance_scale": 2.0}


def other_vae(bundle: Bundle, folder: Path) -> Path:
    """Write a VAE with another weight than that of the base model, and return its folder."""
    shutil.copytree(bundle.folder / "vae", folder)
    (file,) = folder.glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    return folder


def test_the_same_calibration_continues(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    """A missing file has no batches; the order of the settings of a generation does not matter."""
    path, options = tmp_path / "c.part", CalibrationOptions()
    own = identity(bundles["sd1"], options, GENERATION)
    assert load_partial_result(path, identity=own) == {}
    save_checkpoint({"tokens": torch.ones(2, 3)}, path, identity=own)
    again = identity(bundles["sd1"], CalibrationOptions(), dict(reversed(GENERATION.items())))
    assert load_partial_result(path, identity=again)["tokens"].equal(torch.ones(2, 3))


def test_what_changes_pictures_or_learning_is_refused(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    """Batches of two calibrations are not mixed; the error names the file, and says to delete it."""
    path, bundle, options = tmp_path / "c.part", bundles["sd1"], CalibrationOptions()
    save_checkpoint({}, path, identity=identity(bundle, options, GENERATION))
    others = [
        identity(bundles["sd2"], options, GENERATION),
        identity(replace(bundle, precisions=PartPrecisions.of("nf4")), options, GENERATION),
        identity(replace(bundle, custom_vae=other_vae(bundle, tmp_path / "vae")), options, GENERATION),
        identity(bundle, replace(options, excluded=("fox",)), GENERATION),
        identity(bundle, options, {**GENERATION, "steps": 30}),
        identity(bundle, options, {**GENERATION, "guidance_scale": 3.0}),
    ]
    for other in others:
        with pytest.raises(InvalidCheckpointError) as caught:
            load_partial_result(path, identity=other)
        assert str(path) in caught.value.message
        assert caught.value.message.endswith("; or delete this file to start again")
