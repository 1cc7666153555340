"""Configurations of four narrow families with the real block types, and of SD1.5, SD2.1 and SDXL at full size."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

Config = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """Configurations of one pipeline folder; `text`, `text_classes` and `pads` have one entry per text encoder."""

    pipeline: str
    unet: Config
    vae: Config
    text: tuple[Config, ...]
    text_classes: tuple[str, ...]
    pads: tuple[str, ...]
    scheduler: Config
    index: Config = field(default_factory=dict)


_SD1_UNET: Config = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "block_out_channels": [32, 64, 64],
    "layers_per_block": 1,
    "attention_head_dim": 4,  # in diffusers this is the number of heads
    "cross_attention_dim": 32,
    "norm_num_groups": 8,
}
_SD2_UNET: Config = _SD1_UNET | {"use_linear_projection": True, "attention_head_dim": [2, 4, 4]}
_SDXL_UNET: Config = _SD1_UNET | {
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "transformer_layers_per_block": [1, 1, 2],
    "use_linear_projection": True,
    "attention_head_dim": [2, 4, 4],
    "cross_attention_dim": 32 + 64,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 64,  # six time ids and the pooled text
}
_VAE: Config = {
    "sample_size": 64,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [16, 16, 32, 32],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "scaling_factor": 0.18215,
}
_CLIP_L: Config = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "projection_dim": 32,
    "hidden_act": "quick_gelu",
    "max_position_embeddings": 77,
}
_OPEN_CLIP: Config = _CLIP_L | {"hidden_act": "gelu", "num_hidden_layers": 3}
_OPEN_CLIP_WIDE: Config = _OPEN_CLIP | {"hidden_size": 64, "intermediate_size": 128, "projection_dim": 64}
_BETAS: Config = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "steps_offset": 1,
}
_PNDM: Config = _BETAS | {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "set_alpha_to_one": False}
_DDIM: Config = _BETAS | {"_class_name": "DDIMScheduler", "clip_sample": False, "set_alpha_to_one": False}
_EULER: Config = _BETAS | {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"}
_SD_INDEX: Config = {
    "safety_checker": [None, None],
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
}
_SDXL_INDEX: Config = {
    "force_zeros_for_empty_prompt": True,
    "image_encoder": [None, None],
    "feature_extractor": [None, None],
}
_SD, _SDXL = "StableDiffusionPipeline", "StableDiffusionXLPipeline"
_TEXT, _TEXT_PROJECTED = "CLIPTextModel", "CLIPTextModelWithProjection"
_END = "<|endoftext|>"

FAMILIES: dict[str, Family] = {
    "sd1": Family(_SD, _SD1_UNET, _VAE, (_CLIP_L,), (_TEXT,), (_END,), _PNDM, _SD_INDEX),
    "sd2": Family(_SD, _SD2_UNET, _VAE, (_OPEN_CLIP,), (_TEXT,), ("!",), _DDIM, _SD_INDEX),
    "sd2_v": Family(
        _SD,
        _SD2_UNET | {"upcast_attention": True},
        _VAE,
        (_OPEN_CLIP,),
        (_TEXT,),
        ("!",),
        _DDIM | {"prediction_type": "v_prediction"},
        _SD_INDEX,
    ),
    "sdxl": Family(
        _SDXL,
        _SDXL_UNET,
        _VAE | {"scaling_factor": 0.13025, "force_upcast": True},
        (_CLIP_L, _OPEN_CLIP_WIDE),
        (_TEXT, _TEXT_PROJECTED),
        (_END, "!"),
        _EULER,
        _SDXL_INDEX,
    ),
}


def sd15() -> Family:
    """Return Stable Diffusion 1.5 at full size: 860 M + 84 M + 123 M parameters."""
    narrow = FAMILIES["sd1"]
    blocks = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]
    unet = copy.deepcopy(narrow.unet) | {
        "sample_size": 64,
        "down_block_types": blocks,
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "block_out_channels": [320, 640, 1280, 1280],
        "layers_per_block": 2,
        "attention_head_dim": 8,
        "cross_attention_dim": 768,
        "norm_num_groups": 32,
    }
    vae = copy.deepcopy(narrow.vae) | {
        "sample_size": 512,
        "block_out_channels": [128, 256, 512, 512],
        "layers_per_block": 2,
        "norm_num_groups": 32,
    }
    text = copy.deepcopy(narrow.text[0]) | {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "projection_dim": 768,
        "vocab_size": 49408,
    }
    return Family(
        narrow.pipeline, unet, vae, (text,), narrow.text_classes, narrow.pads, narrow.scheduler, narrow.index
    )


def sd21() -> Family:
    """Return Stable Diffusion 2.1 at full size, for images of 768 px: 866 M + 84 M + 340 M parameters."""
    narrow, small = FAMILIES["sd2_v"], sd15()
    unet = copy.deepcopy(small.unet) | {
        "sample_size": 96,
        "use_linear_projection": True,
        "attention_head_dim": [5, 10, 20, 20],
        "cross_attention_dim": 1024,
    }
    text = copy.deepcopy(small.text[0]) | {
        "hidden_act": "gelu",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 23,
        "num_attention_heads": 16,
        "projection_dim": 512,
    }
    return Family(
        narrow.pipeline,
        unet,
        small.vae | {"sample_size": 768},
        (text,),
        narrow.text_classes,
        narrow.pads,
        narrow.scheduler,
        narrow.index,
    )


def sdxl() -> Family:
    """Return Stable Diffusion XL at full size: 2,567 M + 84 M + 123 M + 695 M parameters."""
    narrow, small = FAMILIES["sdxl"], sd15()
    unet = copy.deepcopy(narrow.unet) | {
        "sample_size": 128,
        "block_out_channels": [320, 640, 1280],
        "layers_per_block": 2,
        "transformer_layers_per_block": [1, 2, 10],
        "attention_head_dim": [5, 10, 20],
        "cross_attention_dim": 768 + 1280,
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 6 * 256 + 1280,
        "norm_num_groups": 32,
    }
    vae = copy.deepcopy(narrow.vae) | {
        name: small.vae[name] for name in ("block_out_channels", "layers_per_block", "norm_num_groups")
    }
    text = copy.deepcopy(small.text[0]) | {
        "hidden_act": "gelu",
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "projection_dim": 1280,
    }
    return Family(
        narrow.pipeline,
        unet,
        vae | {"sample_size": 1024},
        (small.text[0], text),
        narrow.text_classes,
        narrow.pads,
        narrow.scheduler,
        narrow.index,
    )
