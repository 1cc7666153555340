"""Networks of a pipeline folder without weights, on the meta device."""

from __future__ import annotations

from pathlib import Path

import diffusers
import torch
import transformers
from torch import nn


def empty_network(folder: Path, part: str) -> nn.Module:
    """Build one network from its configuration; it allocates no memory.

    Args:
        folder: pipeline folder.
        part: "unet", "vae", "text_encoder" or "text_encoder_2".
    """
    if part.startswith("text_encoder"):
        projected = part == "text_encoder_2"
        kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
        config = transformers.CLIPTextConfig.from_pretrained(folder / part, attn_implementation="sdpa")
        with torch.device("meta"):
            encoder: nn.Module = kind._from_config(config)
        return encoder
    if part == "vae":
        return empty_vae(folder / part)
    kind = diffusers.UNet2DConditionModel
    with torch.device("meta"):
        unet: nn.Module = kind.from_config(kind.load_config(folder / part))
    return unet


def empty_vae(folder: Path) -> nn.Module:
    """Build a VAE from its own folder; it allocates no memory."""
    kind = diffusers.AutoencoderKL
    with torch.device("meta"):
        vae: nn.Module = kind.from_config(kind.load_config(folder))
    return vae
