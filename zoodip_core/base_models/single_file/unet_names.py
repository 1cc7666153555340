"""Names of the U-Net's tensors: from a checkpoint in one file to diffusers."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

_FIXED = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.resnets.1",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_BLOCK = re.compile(r"(input|output)_blocks\.(\d+)\.(\d)\.(.+)")
_RESNET_LAYER = re.compile(rf"({'|'.join(map(re.escape, _RESNET))})\.(weight|bias)")


@dataclass(frozen=True)
class UNetStructure:
    """Number of resolution levels, and of residual blocks in each level on the way down."""

    levels: int
    layers: int

    def input_block(self, level: int) -> str:
        """Return the prefix of the first block of a level."""
        return f"input_blocks.{1 + level * (self.layers + 1)}"


def unet_structure(keys: Collection[str]) -> UNetStructure:
    """Return the structure of a U-Net from the keys of its tensors; a downsampler ends each level but the last."""
    numbers = [int(key.split(".")[1]) for key in keys if key.startswith("input_blocks.")]
    downsamplers = [number for number in numbers if f"input_blocks.{number}.0.op.weight" in keys]
    layers = min(downsamplers, default=max(numbers, default=1) + 1) - 1
    return UNetStructure(levels=len(set(downsamplers)) + 1, layers=max(layers, 1))


def unet_name(key: str, structure: UNetStructure) -> str | None:
    """Return diffusers' name of a tensor, or None for a tensor that the U-Net of Stable Diffusion lacks."""
    block = None if key.startswith("input_blocks.0.") else _BLOCK.fullmatch(key)
    if block:
        side, number, part, rest = block[1], int(block[2]), int(block[3]), block[4]
        place = _input_place if side == "input" else _output_place
        return _with_resnet_names(place(number, part, rest, structure), rest)
    for prefix, name in _FIXED.items():
        if key.startswith(f"{prefix}."):
            return _with_resnet_names(name, key.removeprefix(f"{prefix}."))
    return None


def _input_place(number: int, part: int, rest: str, structure: UNetStructure) -> str | None:
    level, layer = divmod(number - 1, structure.layers + 1)
    if rest.startswith("op."):
        return f"down_blocks.{level}.downsamplers.0"
    return _layer_place(f"down_blocks.{level}", layer, part)


def _output_place(number: int, part: int, rest: str, structure: UNetStructure) -> str | None:
    level, layer = divmod(number, structure.layers + 1)
    if rest.startswith("conv."):
        return f"up_blocks.{level}.upsamplers.0"
    return _layer_place(f"up_blocks.{level}", layer, part)


def _layer_place(block: str, layer: int, part: int) -> str | None:
    kinds = ("resnets", "attentions")
    return f"{block}.{kinds[part]}.{layer}" if part < len(kinds) else None


def _with_resnet_names(place: str | None, rest: str) -> str | None:
    """Append the rest of a key to a place, with diffusers' names for the layers of a residual block."""
    if place is None:
        return None
    layer = _RESNET_LAYER.fullmatch(rest)
    if layer:
        return f"{place}.{_RESNET[layer[1]]}.{layer[2]}"
    return f"{place}.{re.sub(r'^op[.]', 'conv.', rest)}"
