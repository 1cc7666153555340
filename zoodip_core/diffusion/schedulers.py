"""Schedulers by name, configured with the scheduler settings of the base model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers

from zoodip_core.base_models.scheduler_names import SCHEDULERS, check_scheduler
from zoodip_core.diffusion.denoising import NoiseSchedule


def make_scheduler(folder: Path, name: str | None) -> Any:
    """Return the named scheduler with the noise schedule of the base model.

    Args:
        folder: the base model's `scheduler/` folder.
        name: one of SCHEDULERS, or None for the default of the base model.

    Raises:
        UnknownSchedulerError: no scheduler has that name; the message lists all names.
    """
    config = json.loads((folder / "scheduler_config.json").read_text())
    check_scheduler(name)
    kind, overrides = SCHEDULERS[name] if name else (config["_class_name"], {})
    return getattr(diffusers, kind).from_config(config | overrides)


def noise_schedule(folder: Path) -> NoiseSchedule:
    """Return ᾱ_t and the prediction type that the U-Net was trained with."""
    scheduler = diffusers.DDPMScheduler.from_config(
        json.loads((folder / "scheduler_config.json").read_text())
    )
    return NoiseSchedule(
        scheduler.alphas_cumprod.float(), velocity=scheduler.config.prediction_type == "v_prediction"
    )
