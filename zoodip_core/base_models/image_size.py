"""Sizes of images that a base model can draw. No weights."""

from __future__ import annotations

from pathlib import Path

from zoodip_core.base_models.families import read_config


def latent_cell_px(folder: Path) -> int:
    """Return the side in pixels of one latent cell; the sides of images are multiples of it.

    Raises:
        InvalidModelError: the configuration of the VAE is missing or damaged.
    """
    return int(2 ** (len(read_config(folder, "vae/config.json")["block_out_channels"]) - 1))


def native_side_px(folder: Path) -> int:
    """Return the side of the square images that a base model was trained on.

    Raises:
        InvalidModelError: the configuration of the VAE or the U-Net is missing or damaged.
    """
    return int(read_config(folder, "unet/config.json")["sample_size"]) * latent_cell_px(folder)
