"""Schedulers by name, configured with the scheduler settings of the base model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers

from zoodip_core.base_models.scheduler_names import SCHEDULERS, check_scheduler
from zoodip_core.diffusion.denoising import NoiseSchedule
from zoodip_core.errors import InvalidSettingsError


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


def set_timesteps(scheduler: Any, steps: int) -> None:
    """Set the timesteps of a generation. They stay on the CPU, where schedulers index their tables with them.

    Raises:
        InvalidSettingsError: the timesteps of so many steps exceed the scheduler's tables.
    """
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):
        # Otherwise it looks the first timestep up, where equal ones are ambiguous.
        scheduler.set_begin_index(0)
        return
    count, highest = scheduler.config.num_train_timesteps, int(scheduler.timesteps.max())
    if highest >= count:
        raise InvalidSettingsError.mismatch(
            "steps",
            got=steps,
            expected=f"fewer for this scheduler, which would use timestep {highest} of 0 to {count - 1}",
        )


def noise_schedule(folder: Path) -> NoiseSchedule:
    """Return ᾱ_t and the prediction type that the U-Net was trained with."""
    scheduler = diffusers.DDPMScheduler.from_config(
        json.loads((folder / "scheduler_config.json").read_text())
    )
    return NoiseSchedule(
        scheduler.alphas_cumprod.float(), velocity=scheduler.config.prediction_type == "v_prediction"
    )
