"""Schedulers by name, made from the base model's own scheduler settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers

from zoodip_core.base_models.scheduler_names import SCHEDULERS, check_scheduler
from zoodip_core.diffusion.denoising import NoiseSchedule


def make_scheduler(folder: Path, name: str | None) -> Any:
    """The scheduler of that name with the noise schedule of the base model in `folder`.

    Args:
        folder: the base model's `scheduler/` folder.
        name: one of SCHEDULERS, or None for the one that the base model names.

    Raises:
        UnknownSchedulerError: lists the names.
    """
    config = json.loads((folder / "scheduler_config.json").read_text())
    check_scheduler(name)
    kind, own = SCHEDULERS[name] if name else (config["_class_name"], {})
    return getattr(diffusers, kind).from_config(config | own)


def noise_schedule(folder: Path) -> NoiseSchedule:
    """ᾱ_t and the prediction type that the U-Net was trained with."""
    scheduler = diffusers.DDPMScheduler.from_config(
        json.loads((folder / "scheduler_config.json").read_text())
    )
    return NoiseSchedule(
        scheduler.alphas_cumprod.float(), velocity=scheduler.config.prediction_type == "v_prediction"
    )
