"""Schedulers: every one draws with any number of steps, or refuses it before the first one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from zoodip_core.base_models.catalog import Catalog
from zoodip_core.base_models.scheduler_names import SCHEDULERS
from zoodip_core.diffusion.schedulers import make_scheduler, set_timesteps
from zoodip_core.errors import InvalidSettingsError

_STABLE_DIFFUSION = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
_REFUSED = {("ddim", 1000), ("ddpm", 1000), ("pndm", 1000)}
"""With an offset of 1, the first of these 1,000 timesteps would be 1,000."""


def _folder(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "scheduler_config.json").write_text(json.dumps(config))
    return folder


def _draw(folder: Path, name: str, steps: int) -> None:
    """Take all steps with predictions of random noise."""
    scheduler = make_scheduler(folder, name)
    set_timesteps(scheduler, steps)
    latents = torch.ones(1, 4, 2, 2)
    for timestep in scheduler.timesteps:
        noisy = scheduler.scale_model_input(latents, timestep)
        latents = scheduler.step(noisy, timestep, latents).prev_sample


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("steps", [1, 2, 21, 50, 129, 1000])
def test_every_scheduler_draws_with_any_number_of_steps(tmp_path: Path, name: str, steps: int) -> None:
    """With the noise schedule of the embedded model and of Stable Diffusion 1.5."""
    embedded = Catalog.load().get("emoji").path
    assert embedded is not None
    _draw(embedded / "scheduler", name, steps)
    folder = _folder(tmp_path, {"_class_name": "PNDMScheduler", "skip_prk_steps": True, **_STABLE_DIFFUSION})
    if (name, steps) not in _REFUSED:
        _draw(folder, name, steps)
        return
    with pytest.raises(InvalidSettingsError, match="steps: got 1000; expected fewer for this scheduler"):
        _draw(folder, name, steps)
