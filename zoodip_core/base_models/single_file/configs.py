"""Configurations of the networks of a checkpoint in one file.

The shapes of the tensors give the sizes. Everything else is the same in all checkpoints of a family, and has the
values of the published configurations of Stable Diffusion 1.5, 2.1 and XL 1.0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from zoodip_core.base_models.families import Family
from zoodip_core.base_models.safetensors_header import TensorInfo
from zoodip_core.base_models.single_file.noise_process import NoiseProcess
from zoodip_core.base_models.single_file.unet_names import unet_structure

Config = dict[str, Any]
Tensors = Mapping[str, TensorInfo]

_HEAD = 64  # channels of an attention head; SD1's U-Net has 8 heads instead
_SD1_HEADS = 8
_SD2_UNUSED_LAYERS = (
    1  # SD2 conditions on the penultimate layer, so its published text encoder lacks the last one
)
_SIDES_PX: dict[Family, int] = {"sd1": 512, "sd2": 512, "sdxl": 1024}
_SD2_V_SIDE_PX = 768
_TIME_IDS = 6  # original size, crop corner, target size
_SCALING: dict[Family, float] = {"sd1": 0.18215, "sd2": 0.18215, "sdxl": 0.13025}
_SCHEDULERS: dict[Family, Config] = {
    "sd1": {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "set_alpha_to_one": False},
    "sd2": {"_class_name": "DDIMScheduler", "set_alpha_to_one": False, "clip_sample": False},
    "sdxl": {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"},
}
_BETAS: Config = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


def side_px(family: Family, process: NoiseProcess, metadata: Mapping[str, str]) -> int:
    """Return the side of the images that the model was trained on, in pixels.

    A square `modelspec.resolution` in the metadata has precedence over the size of the family.
    """
    stated = re.fullmatch(r"(\d{2,5})x(\d{2,5})", metadata.get("modelspec.resolution", ""))
    if stated and stated[1] == stated[2]:
        return int(stated[1])
    is_sd2_v = family == "sd2" and process.prediction_type == "v_prediction"
    return _SD2_V_SIDE_PX if is_sd2_v else _SIDES_PX[family]


def unet_config(tensors: Tensors, family: Family, *, side_cells: int, pooled_width: int) -> Config:
    """Return the configuration of the U-Net.

    Args:
        tensors: tensors of the U-Net by key, without the prefix.
        family: family of the checkpoint.
        side_cells: side of the latents of the training images.
        pooled_width: width of SDXL's pooled text state; unused for other families.
    """
    structure = unet_structure(tensors)
    blocks = [structure.input_block(level) for level in range(structure.levels)]
    channels = [tensors[f"{block}.0.out_layers.3.weight"].shape[0] for block in blocks]
    depths = [_count(tensors, rf"{re.escape(block)}\.1\.transformer_blocks\.(\d+)\.") for block in blocks]
    (context,) = {info.shape[1] for key, info in tensors.items() if key.endswith(".attn2.to_k.weight")} or {0}
    kinds = ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths]
    config: Config = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": side_cells,
        "in_channels": tensors["input_blocks.0.0.weight"].shape[1],
        "out_channels": tensors["out.2.weight"].shape[0],
        "down_block_types": kinds,
        "up_block_types": [kind.replace("Down", "Up") for kind in reversed(kinds)],
        "block_out_channels": channels,
        "layers_per_block": structure.layers,
        "cross_attention_dim": context,
        "norm_num_groups": 32,
        "attention_head_dim": _SD1_HEADS,  # the number of heads, in diffusers
    }
    if family != "sd1":
        config |= {
            "attention_head_dim": [count // _HEAD for count in channels],
            "use_linear_projection": True,
        }
    if family == "sd2":
        config["upcast_attention"] = True  # SD2.1's attention overflows in fp16
    if family == "sdxl":
        config["transformer_layers_per_block"] = [max(depth, 1) for depth in depths]
        config |= _added_conditions(tensors, pooled_width)
    return config


def _added_conditions(tensors: Tensors, pooled_width: int) -> Config:
    """Return the configuration of SDXL's conditioning on the pooled text state and the time ids."""
    added = tensors["label_emb.0.0.weight"].shape[1]
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": (added - pooled_width) // _TIME_IDS,
        "projection_class_embeddings_input_dim": added,
    }


def vae_levels(tensors: Tensors) -> int:
    """Return the number of resolution levels of the VAE."""
    return _count(tensors, r"encoder\.down\.(\d+)\.")


def vae_config(tensors: Tensors, family: Family, *, side_px: int) -> Config:
    """Return the configuration of the VAE.

    Args:
        tensors: tensors of the VAE by key, without the prefix.
        family: family of the checkpoint.
        side_px: side of the training images in pixels.
    """
    levels = vae_levels(tensors)
    config: Config = {
        "_class_name": "AutoencoderKL",
        "sample_size": side_px,
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": tensors["decoder.conv_in.weight"].shape[1],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": [
            tensors[f"encoder.down.{level}.block.0.conv2.weight"].shape[0] for level in range(levels)
        ],
        "layers_per_block": _count(tensors, r"encoder\.down\.0\.block\.(\d+)\."),
        "norm_num_groups": 32,
        "scaling_factor": _SCALING[family],
        "force_upcast": family == "sdxl",  # SDXL's VAE overflows in fp16
    }
    return config


def clip_config(tensors: Tensors) -> Config:
    """Return the configuration of OpenAI's CLIP, from tensors by their names in transformers."""
    return _text_config(tensors, "CLIPTextModel", "quick_gelu")


def open_clip_config(tensors: Tensors, *, projected: bool) -> Config:
    """Return the configuration of an OpenCLIP text encoder, from tensors by their names in transformers."""
    name = "CLIPTextModelWithProjection" if projected else "CLIPTextModel"
    return _text_config(tensors, name, "gelu")


def open_clip_layers(tensors: Tensors, family: Family) -> int:
    """Return the number of layers of an OpenCLIP text encoder that the base model uses."""
    layers = _count(tensors, r"transformer\.resblocks\.(\d+)\.")
    return layers - _SD2_UNUSED_LAYERS if family == "sd2" else layers


def scheduler_config(family: Family, process: NoiseProcess) -> Config:
    """Return the configuration of the default scheduler."""
    config = _BETAS | _SCHEDULERS[family] | {"prediction_type": process.prediction_type}
    if process.zero_snr:
        if family != "sdxl":
            config |= _SCHEDULERS["sd2"]  # PNDM cannot start at pure noise
        config |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return config


def pipeline_index(family: Family) -> Config:
    """Return model_index.json."""
    if family == "sdxl":
        return {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True}
    return {"_class_name": "StableDiffusionPipeline"}


def _text_config(tensors: Tensors, name: str, activation: str) -> Config:
    vocabulary, width = tensors["embeddings.token_embedding.weight"].shape
    projection = tensors.get("text_projection.weight")
    return {
        "model_type": "clip_text_model",
        "architectures": [name],
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": tensors["encoder.layers.0.mlp.fc1.weight"].shape[0],
        "num_hidden_layers": _count(tensors, r"encoder\.layers\.(\d+)\."),
        "num_attention_heads": max(width // _HEAD, 1),
        "max_position_embeddings": tensors["embeddings.position_embedding.weight"].shape[0],
        "hidden_act": activation,
        "layer_norm_eps": 1e-5,
        "projection_dim": width if projection is None else projection.shape[0],
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": 1,
    }


def _count(tensors: Tensors, pattern: str) -> int:
    """Return the number of different numbers that the pattern finds at the start of keys."""
    compiled = re.compile(pattern)
    return len({match[1] for key in tensors if (match := compiled.match(key))})
