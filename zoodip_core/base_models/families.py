"""What kind of model a pipeline folder holds, from its JSON files alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from zoodip_core.errors import InvalidModelError

Family = Literal["sd1", "sd2", "sdxl"]

TEXT_ENCODERS: dict[Family, tuple[str, ...]] = {
    "sd1": ("text_encoder",),
    "sd2": ("text_encoder",),
    "sdxl": ("text_encoder", "text_encoder_2"),
}
SD2_WIDTH = 1024  # OpenCLIP ViT-H's hidden size
_PIPELINES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
_NEEDED = ("vae/config.json", "scheduler/scheduler_config.json")
_ALLOWED = "allowed: Stable Diffusion 1.x, 2.x or XL in diffusers' folder layout"


def detect_family(folder: Path) -> Family:
    """The family of the pipeline in diffusers' folder layout.

    Structure decides, not the kind of prediction: SD2 has linear projections around its cross-attention
    or OpenCLIP's width, SDXL a second text encoder and time ids. All else is SD1.

    Raises:
        InvalidModelError: the folder is missing or incomplete, or of an unsupported kind.
    """
    pipeline = read_config(folder, "model_index.json").get("_class_name")
    if pipeline not in _PIPELINES:
        raise InvalidModelError(f"base model: {folder} holds a {pipeline}; {_ALLOWED}")
    unet = read_config(folder, "unet/config.json")
    text = read_config(folder, "text_encoder/config.json")
    for name in _NEEDED:
        read_config(folder, name)
    _check_latents(folder, unet)
    timed = unet.get("addition_embed_type") == "text_time"
    second = (folder / "text_encoder_2/config.json").is_file()
    if timed != second:
        found = (
            "time ids without a second text encoder" if timed else "a second text encoder without time ids"
        )
        raise InvalidModelError(f"base model: {folder} has {found}; {_ALLOWED}")
    if timed:
        return "sdxl"
    wide = SD2_WIDTH in (unet.get("cross_attention_dim"), text.get("hidden_size"))
    return "sd2" if wide or unet.get("use_linear_projection") else "sd1"


def embedding_widths(folder: Path) -> tuple[int, ...]:
    """How long a token's embedding is in each text encoder of the folder, in order.

    Raises:
        InvalidModelError: as `detect_family`, or a text encoder that does not say its width.
    """
    widths = []
    for part in TEXT_ENCODERS[detect_family(folder)]:
        width = read_config(folder, f"{part}/config.json").get("hidden_size")
        if not isinstance(width, int):
            raise InvalidModelError(f"base model: {folder / part}/config.json: hidden_size is {width!r}")
        widths.append(width)
    return tuple(widths)


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object of the pipeline folder.

    Raises:
        InvalidModelError: the file is missing, or holds something else.
    """
    path = folder / name
    if not folder.is_dir():
        raise InvalidModelError(f"base model: the folder {folder} does not exist")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidModelError(f"base model: {path} cannot be read: {error.strerror}; {_ALLOWED}") from error
    except ValueError as error:
        raise InvalidModelError(f"base model: {path} is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise InvalidModelError(f"base model: {path} holds no JSON object")
    return config


def _check_latents(folder: Path, unet: dict[str, Any]) -> None:
    """An inpainting, depth or upscaling U-Net takes more channels than there are latents."""
    takes, gives = unet.get("in_channels"), unet.get("out_channels")
    if takes != gives:
        raise InvalidModelError(
            f"base model: {folder} has a U-Net from {takes} to {gives} channels; "
            "allowed: text to image only, with as many channels in as out"
        )
