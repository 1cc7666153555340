"""Names of the VAE's tensors: from a checkpoint in one file to diffusers."""

from __future__ import annotations

import re

_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_RULES = (  # pattern of a key without its last part → diffusers' name; {up} counts levels from the other end
    (r"(?P<s>encoder|decoder)\.(?P<n>conv_in|conv_out)", "{s}.{n}"),
    (r"(?P<s>encoder|decoder)\.norm_out", "{s}.conv_norm_out"),
    (r"encoder\.down\.(?P<l>\d+)\.block\.(?P<b>\d+)\.(?P<n>\w+)", "encoder.down_blocks.{l}.resnets.{b}.{n}"),
    (r"encoder\.down\.(?P<l>\d+)\.downsample\.conv", "encoder.down_blocks.{l}.downsamplers.0.conv"),
    (r"decoder\.up\.(?P<l>\d+)\.block\.(?P<b>\d+)\.(?P<n>\w+)", "decoder.up_blocks.{up}.resnets.{b}.{n}"),
    (r"decoder\.up\.(?P<l>\d+)\.upsample\.conv", "decoder.up_blocks.{up}.upsamplers.0.conv"),
    (r"(?P<s>encoder|decoder)\.mid\.block_1\.(?P<n>\w+)", "{s}.mid_block.resnets.0.{n}"),
    (r"(?P<s>encoder|decoder)\.mid\.block_2\.(?P<n>\w+)", "{s}.mid_block.resnets.1.{n}"),
    (r"(?P<s>encoder|decoder)\.mid\.attn_1\.(?P<a>\w+)", "{s}.mid_block.attentions.0.{a}"),
    (r"(?P<n>quant_conv|post_quant_conv)", "{n}"),
)
_COMPILED = tuple((re.compile(pattern), name) for pattern, name in _RULES)


def vae_name(key: str, levels: int) -> str | None:
    """Return diffusers' name of a tensor, or None for a tensor that an image needs not, such as of a training loss.

    Args:
        key: key of the tensor below the prefix of the VAE.
        levels: number of resolution levels.
    """
    layer, _, kind = key.rpartition(".")
    for pattern, name in _COMPILED:
        match = pattern.fullmatch(layer)
        if match:
            parts = match.groupdict()
            parts["up"] = str(levels - 1 - int(parts.get("l") or 0))
            parts["a"] = _ATTENTION.get(parts.get("a", ""), "")
            parts["n"] = "conv_shortcut" if parts.get("n") == "nin_shortcut" else parts.get("n", "")
            return f"{name.format(**parts)}.{kind}"
    return None


def is_attention_matrix(name: str) -> bool:
    """Return whether diffusers stores this 1×1 convolution kernel as a matrix."""
    return ".attentions." in name and name.endswith(".weight") and "group_norm" not in name
