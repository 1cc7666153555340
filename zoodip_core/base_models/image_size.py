"""Sizes of images that a base model can draw. No weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoodip_core.base_models.families import read_config
from zoodip_core.errors import InvalidModelError, InvalidSettingsError


def latent_cell_px(folder: Path) -> int:
    """Return the side in pixels of one latent cell; the sides of images are multiples of it.

    Raises:
        InvalidModelError: the configuration of the VAE is missing or damaged.
    """
    return int(2 ** (len(_required(folder, "vae/config.json", "block_out_channels", list)) - 1))


def native_side_px(folder: Path) -> int:
    """Return the side of the square images that a base model was trained on.

    Raises:
        InvalidModelError: the configuration of the VAE or the U-Net is missing or damaged.
    """
    return int(_required(folder, "unet/config.json", "sample_size", int)) * latent_cell_px(folder)


def check_sides(height: int | None, width: int | None, cell_px: int) -> None:
    """Validate that the sides of an image are multiples of a latent cell; None is always allowed.

    Raises:
        InvalidSettingsError: names the side.
    """
    for name, side in (("height", height), ("width", width)):
        if side is not None and side % cell_px:
            raise InvalidSettingsError.mismatch(name, got=side, expected=f"a multiple of {cell_px}")


def _required(folder: Path, file: str, key: str, kind: type) -> Any:
    """Return a value of a configuration.

    Raises:
        InvalidModelError: the file is missing or damaged, or has no such value.
    """
    value = read_config(folder, file).get(key)
    if not isinstance(value, kind) or not value:
        raise InvalidModelError.mismatch(
            "base_model",
            got=f"{key} {value!r} in {folder / file}",
            expected="a list" if kind is list else "a whole number",
        )
    return value
