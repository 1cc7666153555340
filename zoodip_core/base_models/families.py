"""Detects the model family of a pipeline folder from its JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from zoodip_core.base_models.noise_process import check_noise_process
from zoodip_core.errors import InvalidModelError

Family = Literal["sd1", "sd2", "sdxl"]

TEXT_ENCODERS: dict[Family, tuple[str, ...]] = {
    "sd1": ("text_encoder",),
    "sd2": ("text_encoder",),
    "sdxl": ("text_encoder", "text_encoder_2"),
}
SD2_WIDTH = 1024  # OpenCLIP ViT-H's hidden size
_PIPELINES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
_EXPECTED = "Stable Diffusion 1.x, 2.x or XL in diffusers' folder layout"


def network_parts(family: Family) -> tuple[str, ...]:
    """Return the folders of all networks of a family."""
    return (*TEXT_ENCODERS[family], "unet", "vae")


def detect_family(folder: Path) -> Family:
    """Return the family of a pipeline in diffusers' folder layout.

    The architecture decides, not the prediction type. SDXL has a second text encoder and time ids. SD2 has linear
    projections in its cross-attention, or OpenCLIP's width. Everything else is SD1.

    Raises:
        InvalidModelError: the folder is missing or incomplete, or the model is not supported.
    """
    pipeline = read_config(folder, "model_index.json").get("_class_name")
    if pipeline not in _PIPELINES:
        raise InvalidModelError.mismatch("base_model", got=f"{pipeline} in {folder}", expected=_EXPECTED)
    unet = read_config(folder, "unet/config.json")
    text = read_config(folder, "text_encoder/config.json")
    vae = read_config(folder, "vae/config.json")
    scheduler = read_config(folder, "scheduler/scheduler_config.json")
    _check_latents(folder, unet)
    check_noise_process(scheduler, unet, vae)
    has_time_ids = unet.get("addition_embed_type") == "text_time"
    has_second_encoder = (folder / "text_encoder_2/config.json").is_file()
    if has_time_ids != has_second_encoder:
        found = (
            "time ids without a second text encoder"
            if has_time_ids
            else "a second text encoder without time ids"
        )
        raise InvalidModelError.mismatch("base_model", got=f"{found} in {folder}", expected=_EXPECTED)
    if has_time_ids:
        return "sdxl"
    wide = SD2_WIDTH in (unet.get("cross_attention_dim"), text.get("hidden_size"))
    return "sd2" if wide or unet.get("use_linear_projection") else "sd1"


def embedding_widths(folder: Path) -> tuple[int, ...]:
    """Return the embedding width of each text encoder in the folder, in order.

    Raises:
        InvalidModelError: as `detect_family`, or a text encoder's config has no hidden_size.
    """
    widths = []
    for part in TEXT_ENCODERS[detect_family(folder)]:
        width = read_config(folder, f"{part}/config.json").get("hidden_size")
        if not isinstance(width, int):
            raise InvalidModelError.mismatch(
                "base_model", got=f"hidden_size {width!r} in {folder / part}/config.json", expected="a number"
            )
        widths.append(width)
    return tuple(widths)


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """Read a JSON object of the pipeline folder.

    Raises:
        InvalidModelError: the file is missing, or not a JSON object.
    """
    path = folder / name
    if not folder.is_dir():
        raise InvalidModelError.mismatch(
            "base_model", got=f"{folder}, which does not exist", expected="a folder"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidModelError.mismatch(
            "base_model", got=f"an unreadable {path} ({error.strerror})", expected=f"a folder with {name}"
        ) from error
    except ValueError as error:
        raise InvalidModelError(f"base_model: {path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise InvalidModelError(f"base_model: {path} is not a JSON object")
    return config


def _check_latents(folder: Path, unet: dict[str, Any]) -> None:
    """Validate that the U-Net is for text to image: inpainting, depth and upscaling take extra channels."""
    inputs, outputs = unet.get("in_channels"), unet.get("out_channels")
    if inputs != outputs:
        raise InvalidModelError.mismatch(
            "base_model",
            got=f"a U-Net with {inputs} input and {outputs} output channels in {folder}",
            expected="a text-to-image model, with equal numbers of both",
        )
