"""Refuses base models whose configurations describe a process that the search does not implement.

The search assumes z_t = √ᾱ_t z + √(1−ᾱ_t) ε with discrete timesteps, and a U-Net that predicts ε or the velocity from
z_t, t and text. The libraries ignore many other keys, so such a model would be trained as something else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from zoodip_core.errors import InvalidModelError

SCHEDULER_CLASSES = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)
"""Schedulers of the discrete process. EDM, flow matching and consistency models have others."""

PREDICTION_TYPES = ("epsilon", "v_prediction")
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
TIMESTEP_SPACINGS = ("leading", "linspace", "trailing")
MAX_TIMESTEPS = 1_000_000

_Check = tuple[str, Callable[[Any], bool], str]
"""A key, whether a value of it is supported (an absent key always is), and the supported values in words."""


def _one_of(values: tuple[str, ...]) -> Callable[[Any], bool]:
    return lambda value: value in values


def _absent(value: Any) -> bool:
    return value is None


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MAX_TIMESTEPS


def _is_beta(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < 1


def _is_flag(value: Any) -> bool:
    return type(value) is bool


_SCHEDULER: tuple[_Check, ...] = (
    ("_class_name", _one_of(SCHEDULER_CLASSES), ", ".join(SCHEDULER_CLASSES)),
    ("prediction_type", _one_of(PREDICTION_TYPES), " or ".join(PREDICTION_TYPES)),
    ("beta_schedule", _one_of(BETA_SCHEDULES), ", ".join(BETA_SCHEDULES)),
    ("beta_start", _is_beta, "a number between 0 and 1"),
    ("beta_end", _is_beta, "a number between 0 and 1"),
    ("num_train_timesteps", _is_count, f"a whole number from 1 to {MAX_TIMESTEPS:,}"),
    ("rescale_betas_zero_snr", _is_flag, "true or false"),
    ("timestep_spacing", _one_of(TIMESTEP_SPACINGS), ", ".join(TIMESTEP_SPACINGS)),
    ("timestep_type", _one_of(("discrete",)), "discrete"),
    ("use_flow_sigmas", lambda value: value in (None, False), "false"),
)
_UNET: tuple[_Check, ...] = (
    ("_class_name", _one_of(("UNet2DConditionModel",)), "UNet2DConditionModel"),
    ("time_cond_proj_dim", _absent, "null, a U-Net without a guidance embedding"),
    ("class_embed_type", _absent, "null, a U-Net without class labels"),
    ("num_class_embeds", _absent, "null, a U-Net without class labels"),
    ("addition_embed_type", lambda value: value in (None, "text_time"), "null or text_time"),
    ("encoder_hid_dim_type", _absent, "null, a U-Net that takes the text encoder's states"),
    ("encoder_hid_dim", _absent, "null, a U-Net that takes the text encoder's states"),
)
_VAE: tuple[_Check, ...] = (
    ("_class_name", _one_of(("AutoencoderKL",)), "AutoencoderKL"),
    ("latents_mean", _absent, "null, latents with a scaling_factor only"),
    ("latents_std", _absent, "null, latents with a scaling_factor only"),
    ("shift_factor", lambda value: value in (None, 0), "null, latents with a scaling_factor only"),
)


def check_noise_process(
    scheduler: Mapping[str, Any], unet: Mapping[str, Any], vae: Mapping[str, Any]
) -> None:
    """Validate that the configurations describe the process that the search implements.

    Args:
        scheduler: scheduler/scheduler_config.json.
        unet: unet/config.json.
        vae: vae/config.json.

    Raises:
        InvalidModelError: names the file, the key, its value and the supported values.
    """
    for file, config, checks in (
        ("scheduler/scheduler_config.json", scheduler, _SCHEDULER),
        ("unet/config.json", unet, _UNET),
        ("vae/config.json", vae, _VAE),
    ):
        for key, is_supported, supported in checks:
            if key in config and not is_supported(config[key]):
                raise InvalidModelError.mismatch(
                    "base_model", got=f"{key} {config[key]!r} in {file}", expected=supported
                )
    _check_trained_betas(scheduler)


def _check_trained_betas(scheduler: Mapping[str, Any]) -> None:
    """Validate that trained betas, if there are any, are one number between 0 and 1 for each timestep."""
    betas = scheduler.get("trained_betas")
    if betas is None:
        return
    timesteps = scheduler.get("num_train_timesteps", 1000)
    if not isinstance(betas, list) or len(betas) != timesteps or not all(map(_is_beta, betas)):
        raise InvalidModelError.mismatch(
            "base_model",
            got="trained_betas of another length or range in scheduler/scheduler_config.json",
            expected=f"{timesteps} numbers between 0 and 1, one for each timestep",
        )
