"""Configurations of another process are refused; the published ones are accepted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tooling.families import FAMILIES
from zoodip_core.base_models.noise_process import check_noise_process
from zoodip_core.errors import InvalidModelError

SCHEDULER, UNET, VAE = "scheduler/scheduler_config.json", "unet/config.json", "vae/config.json"


def _check(file: str, **values: Any) -> None:
    """Check the configurations of SDXL with values of one file replaced."""
    family = FAMILIES["sdxl"]
    configs = {SCHEDULER: family.scheduler, UNET: family.unet, VAE: family.vae}
    configs[file] = configs[file] | values
    check_noise_process(configs[SCHEDULER], configs[UNET], configs[VAE])


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_the_published_families_are_accepted(name: str) -> None:
    """Stable Diffusion 1, 2 (epsilon and v) and XL pass."""
    family = FAMILIES[name]
    check_noise_process(family.scheduler, family.unet, family.vae)


@pytest.mark.parametrize(
    ("file", "values"),
    [
        (SCHEDULER, {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}),
        (SCHEDULER, {"trained_betas": None, "use_karras_sigmas": True, "timestep_type": "discrete"}),
        (SCHEDULER, {"trained_betas": [0.01] * 1000}),
        (SCHEDULER, {"beta_schedule": "squaredcos_cap_v2"}),
        (UNET, {"time_cond_proj_dim": None, "class_embed_type": None, "num_class_embeds": None}),
        (VAE, {"latents_mean": None, "latents_std": None, "shift_factor": None, "force_upcast": False}),
    ],
)
def test_supported_values_are_accepted(file: str, values: dict[str, Any]) -> None:
    """Absent values, and values that the schedule honors, are no error."""
    _check(file, **values)


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        (SCHEDULER, "_class_name", "EDMEulerScheduler"),
        (SCHEDULER, "_class_name", "EDMDPMSolverMultistepScheduler"),
        (SCHEDULER, "_class_name", "FlowMatchEulerDiscreteScheduler"),
        (SCHEDULER, "_class_name", "FlowMatchHeunDiscreteScheduler"),
        (SCHEDULER, "_class_name", "LCMScheduler"),
        (SCHEDULER, "_class_name", "TCDScheduler"),
        (SCHEDULER, "_class_name", ["diffusers", "DDIMScheduler"]),
        (SCHEDULER, "prediction_type", "sample"),
        (SCHEDULER, "prediction_type", "flow_prediction"),
        (SCHEDULER, "prediction_type", None),
        (SCHEDULER, "use_flow_sigmas", True),
        (SCHEDULER, "timestep_type", "continuous"),
        (SCHEDULER, "beta_schedule", "sigmoid"),
        (SCHEDULER, "beta_schedule", "laplace"),
        (SCHEDULER, "beta_start", "0.1"),
        (SCHEDULER, "beta_end", 1.5),
        (SCHEDULER, "num_train_timesteps", 0),
        (SCHEDULER, "timestep_spacing", "log"),
        (UNET, "time_cond_proj_dim", 256),
        (UNET, "class_embed_type", "timestep"),
        (UNET, "num_class_embeds", 1000),
        (UNET, "addition_embed_type", "image"),
        (UNET, "addition_embed_type", "text"),
        (UNET, "encoder_hid_dim_type", "text_image_proj"),
        (UNET, "_class_name", "UNetMotionModel"),
        (VAE, "_class_name", "AutoencoderTiny"),
        (VAE, "latents_mean", [0.1, 0.2, 0.3, 0.4]),
        (VAE, "latents_std", [1.1, 1.2, 1.3, 1.4]),
        (VAE, "shift_factor", 0.0609),
    ],
)
def test_another_process_is_refused(file: str, key: str, value: object) -> None:
    """The message names the file, the key, its value and the supported values."""
    with pytest.raises(InvalidModelError, match=r"base_model: got .*; expected ") as caught:
        _check(file, **{key: value})
    assert f"got {key} {value!r} in {file}; expected" in caught.value.message


@pytest.mark.parametrize("betas", [[0.1], [0.5] * 999, [0.5] * 999 + [2], "linear", {"0": 0.1}])
def test_trained_betas_must_fit_the_timesteps(betas: object) -> None:
    """One number between 0 and 1 for each timestep."""
    with pytest.raises(InvalidModelError, match=r"trained_betas .*expected 1000 numbers"):
        _check(SCHEDULER, trained_betas=betas)
