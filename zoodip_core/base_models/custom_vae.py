"""A custom VAE of a base model: a folder in diffusers' layout that replaces the pipeline's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoodip_core.base_models.families import read_config
from zoodip_core.errors import InvalidModelError

_DEFAULTS: dict[str, Any] = {
    "latent_channels": 4,
    "scaling_factor": 0.18215,
    "shift_factor": None,
    "latents_mean": None,
    "latents_std": None,
}
"""Properties of latents, with diffusers' defaults for configurations that do not name them."""


def check_custom_vae(vae: Path, pipeline: Path) -> None:
    """Validate that a VAE has the latents that the U-Net of a pipeline was trained on.

    Args:
        vae: folder with `config.json` and safetensors weights.
        pipeline: pipeline folder of the base model.

    Raises:
        InvalidModelError: the folder is no AutoencoderKL, or its latents differ.
    """
    ours = read_config(vae, "config.json")
    if ours.get("_class_name") != "AutoencoderKL":
        raise InvalidModelError.mismatch(
            "vae", got=f"{ours.get('_class_name')} in {vae}", expected="the folder of an AutoencoderKL"
        )
    own, given = _latents(read_config(pipeline, "vae/config.json")), _latents(ours)
    for name, value in own.items():
        if given[name] != value:
            raise InvalidModelError.mismatch(
                "vae", got=f"{name} {given[name]} in {vae}", expected=f"{value}, as in the base model"
            )


def _latents(config: dict[str, Any]) -> dict[str, Any]:
    """Return the properties that latents of two VAEs must share."""
    blocks = config.get("block_out_channels")
    values = {name: config.get(name) or default for name, default in _DEFAULTS.items()}
    return values | {"number of blocks": len(blocks) if isinstance(blocks, list) else None}
