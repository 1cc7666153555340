"""Names of the text encoders' tensors: from a checkpoint in one file to transformers."""

from __future__ import annotations

import re

from zoodip_core.base_models.tensor_files import THIRDS, Place, View

_OPEN_CLIP = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_PROJECTIONS: dict[str, View] = {"text_projection": "transposed", "text_projection.weight": "whole"}
"""Keys of the projection: OpenCLIP's parameter, or the layer that some merges store instead."""
_OPEN_CLIP_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_LAYER = re.compile(r"transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)")
_CLIP = re.compile(r"(?:text_model\.)?((?:embeddings|encoder|final_layer_norm)\..+)")


def clip_places(key: str) -> dict[str, Place]:
    """Return transformers' name of a tensor of OpenAI's CLIP in the layout of transformers; {} for other tensors."""
    match = _CLIP.fullmatch(key)
    if match is None or key.endswith("position_ids"):
        return {}
    return {match[1]: Place(key)}


def open_clip_places(key: str, *, layers: int, projected: bool) -> dict[str, Place]:
    """Return transformers' names of a tensor of OpenCLIP; the fused projections of attention have three.

    Args:
        key: key of the tensor below the prefix of the text encoder.
        layers: number of layers that the base model uses; tensors of later layers have no name.
        projected: whether the base model uses the projection of the end-of-text state.
    """
    if key in _OPEN_CLIP:
        return {_OPEN_CLIP[key]: Place(key)}
    if key in _PROJECTIONS and projected:
        return {"text_projection.weight": Place(key, _PROJECTIONS[key])}
    match = _LAYER.fullmatch(key)
    if match is None or int(match[1]) >= layers:
        return {}
    layer, kind = f"encoder.layers.{match[1]}", match[3]
    if match[2] == "attn.in_proj":
        return {
            f"{layer}.self_attn.{name}_proj.{kind}": Place(key, third)
            for name, third in zip("qkv", THIRDS, strict=True)
        }
    name = _OPEN_CLIP_LAYER.get(match[2])
    return {} if name is None else {f"{layer}.{name}.{kind}": Place(key)}
