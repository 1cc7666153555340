"""Prediction type and size of checkpoints in one file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from zoodip_core.base_models.families import Family
from zoodip_core.base_models.safetensors_header import read_header
from zoodip_core.base_models.single_file.configs import scheduler_config, side_px
from zoodip_core.base_models.single_file.noise_process import NoiseProcess, detect_noise_process
from zoodip_core.errors import InvalidModelError

BIAS = "model.diffusion_model.output_blocks.{}.1.transformer_blocks.0.norm1.bias"


def detect(
    tmp_path: Path,
    family: Family,
    *,
    spread: float = 0.0,
    metadata: dict[str, str] | None = None,
    **markers: object,
) -> NoiseProcess:
    """Detect the noise process of a file whose last attention has a bias of this standard deviation."""
    bias = torch.tensor([-1.0, 1.0] * 8)
    tensors = {BIAS.format(9): bias * (0.2 - spread), BIAS.format(11): bias * spread}
    tensors |= {name: torch.zeros(1) for name in markers}
    save_file(tensors, tmp_path / "x.safetensors", metadata)
    return detect_noise_process(
        tmp_path / "x.safetensors", read_header(tmp_path / "x.safetensors"), family, None
    )


@pytest.mark.parametrize(("spread", "expected"), [(0.05, "epsilon"), (0.15, "v_prediction")])
def test_the_weights_decide_for_sd2(tmp_path: Path, spread: float, expected: str) -> None:
    """The last block counts, and the source of the answer says that it is a guess."""
    found = detect(tmp_path, "sd2", spread=spread)
    assert found.prediction_type == expected
    assert "guess" in found.found
    assert detect(tmp_path, "sd1", spread=spread).prediction_type == "epsilon"


def test_statements_have_precedence(tmp_path: Path) -> None:
    """The option, then the metadata, then the marker tensor."""
    stated = {"modelspec.prediction_type": "v"}
    assert detect(tmp_path, "sd2", metadata=stated).prediction_type == "v_prediction"
    assert detect(tmp_path, "sdxl", v_pred=True).prediction_type == "v_prediction"
    assert detect(tmp_path, "sdxl").prediction_type == "epsilon"
    path = tmp_path / "x.safetensors"
    save_file({"v_pred": torch.zeros(1)}, path, stated)
    assert detect_noise_process(path, read_header(path), "sd2", "epsilon").prediction_type == "epsilon"
    with pytest.raises(InvalidModelError, match="states the prediction type 'flow'; expected epsilon or v"):
        detect(tmp_path, "sdxl", metadata={"modelspec.prediction_type": "flow"})


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_zero_terminal_snr_is_kept(tmp_path: Path, family: Family) -> None:
    """The marker `ztsnr` gives the schedule of training, and a scheduler that can start at pure noise."""
    plain = scheduler_config(family, detect(tmp_path, family))
    zero = scheduler_config(family, detect(tmp_path, family, ztsnr=True, v_pred=True))
    assert "rescale_betas_zero_snr" not in plain
    assert (zero["rescale_betas_zero_snr"], zero["timestep_spacing"]) == (True, "trailing")
    assert zero["_class_name"] in ("DDIMScheduler", "EulerDiscreteScheduler")


def test_sizes() -> None:
    """The family and the prediction type give the size, unless the metadata states a square one."""
    epsilon, velocity = NoiseProcess("epsilon", False, ""), NoiseProcess("v_prediction", False, "")
    assert [side_px(family, epsilon, {}) for family in ("sd1", "sd2", "sdxl")] == [512, 512, 1024]
    assert side_px("sd2", velocity, {}) == 768
    assert side_px("sd1", epsilon, {"modelspec.resolution": "640x640"}) == 640
    assert side_px("sd1", epsilon, {"modelspec.resolution": "640x512"}) == 512
