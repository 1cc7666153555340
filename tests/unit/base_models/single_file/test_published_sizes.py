"""Names and configurations at the sizes of the published models, from shapes alone."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.tooling.models import meta_model
from tests.tooling.single_files import unet_key, vae_key
from zoodip_core.base_models.families import Family
from zoodip_core.base_models.safetensors_header import TensorInfo
from zoodip_core.base_models.single_file.configs import unet_config, vae_config
from zoodip_core.base_models.single_file.unet_names import unet_name, unet_structure
from zoodip_core.base_models.single_file.vae_names import vae_name

SD1: dict[str, Any] = {
    "sample_size": 64,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
}
SD2 = SD1 | {
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
SDXL = {
    "sample_size": 128,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [320, 640, 1280],
    "layers_per_block": 2,
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "transformer_layers_per_block": [1, 2, 10],
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
PUBLISHED: dict[Family, tuple[dict[str, Any], int]] = {  # configuration, number of parameters
    "sd1": (SD1, 859_520_964),
    "sd2": (SD2, 865_910_724),
    "sdxl": (SDXL, 2_567_463_684),
}


def shapes(name: str, config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's tensors without allocating them."""
    return {key: tuple(tensor.shape) for key, tensor in meta_model(name, config).state_dict().items()}


@pytest.mark.parametrize("family", PUBLISHED)
def test_the_unet_of_a_published_model(family: Family) -> None:
    """Every name comes back from its original key, and the shapes give the published configuration."""
    config, parameters = PUBLISHED[family]
    network = shapes("UNet2DConditionModel", config)
    assert sum(math.prod(shape) for shape in network.values()) == parameters
    attended = [kind.startswith("Cross") for kind in config["up_block_types"]]
    keys = {unet_key(name, config["layers_per_block"], attended): name for name in network}
    assert len(keys) == len(network)
    structure = unet_structure(keys)
    assert all(unet_name(key, structure) == name for key, name in keys.items())
    tensors = {key: TensorInfo(network[name], "F16", 0) for key, name in keys.items()}
    found = unet_config(tensors, family, side_cells=config["sample_size"], pooled_width=1280)
    assert {key: found[key] for key in config} == config


def test_the_vae_of_the_published_models() -> None:
    """Every name comes back from its original key, and the shapes give the published configuration."""
    config = {
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
    }
    network = shapes("AutoencoderKL", config)
    assert sum(math.prod(shape) for shape in network.values()) == 83_653_863
    keys = {vae_key(name): name for name in network}
    assert all(vae_name(key, 4) == name for key, name in keys.items())
    tensors = {key: TensorInfo(network[name], "F16", 0) for key, name in keys.items()}
    found = vae_config(tensors, "sd1", side_px=512)
    assert {key: found[key] for key in config} == config
