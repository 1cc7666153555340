"""Checkpoints in one file: narrow pipelines in diffusers' layout, written with the keys of the original programs.

The tables go from diffusers' names to the original keys: the inverse of `zoodip_core.base_models.single_file`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.tooling.families import FAMILIES, Family
from tests.tooling.models import WORDS, write_pipeline
from zoodip_core.base_models.single_file.tokenizer_files import write_tokenizer

Tensors = dict[str, Tensor]

SIDE_PX = 64
WORDS_IN_CLIP = 49_408
_WIDTH = 64  # a head has 64 channels, so this is the narrowest text encoder

_UNET = {"block_out_channels": [64, 128, 128], "norm_num_groups": 32, "cross_attention_dim": _WIDTH}
_VAE = {"block_out_channels": [32, 32, 64, 64], "norm_num_groups": 32}
_TEXT = {
    "hidden_size": _WIDTH,
    "num_attention_heads": 1,
    "projection_dim": _WIDTH,
    "vocab_size": WORDS_IN_CLIP,
}
_HEADS = {"attention_head_dim": [1, 2, 2]}
_CHANGES = {
    "sd1": _UNET | {"attention_head_dim": 8},
    "sd2": _UNET | _HEADS | {"upcast_attention": True},
    "sd2_v": _UNET | _HEADS,
    "sdxl": _UNET
    | _HEADS
    | {"cross_attention_dim": 2 * _WIDTH, "projection_class_embeddings_input_dim": 6 * 8 + _WIDTH},
}

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def published_like(name: str) -> Family:
    """Return a narrow family with the head sizes, groups and vocabulary of the published models."""
    family = FAMILIES[name]
    return dataclasses.replace(
        family,
        unet=family.unet | _CHANGES[name],
        vae=family.vae | _VAE,
        text=tuple(text | _TEXT for text in family.text),
    )


def write_published_like(
    folder: Path, name: str, *, dtype: torch.dtype = torch.float32, seed: int = 0
) -> Path:
    """Write a narrow pipeline folder with CLIP's tokenizers; return the folder."""
    family = published_like(name)
    write_pipeline(folder, family, words=WORDS, seed=seed, dtype=dtype, variant=None)
    for suffix, pad in zip(("", "_2"), family.pads, strict=False):
        place = folder / f"tokenizer{suffix}"
        for file in place.iterdir():
            file.unlink()
        place.rmdir()
        write_tokenizer(place, open_clip=pad == "!")
    return folder


def write_single_file(
    folder: Path,
    path: Path,
    *,
    dtype: torch.dtype | None = None,
    ema: bool = False,
    metadata: Mapping[str, str] | None = None,
    change: Callable[[Tensors], object] | None = None,
) -> Path:
    """Write a pipeline folder as one checkpoint with the original keys; return the path.

    Args:
        folder: pipeline folder.
        path: destination.
        dtype: data type of all tensors; None keeps it.
        ema: whether to add a moving average of the U-Net's weights: each weight times two.
        metadata: values of the header, added to the side of the training images.
        change: edits the tensors before they are written.
    """
    tensors = single_file_tensors(folder)
    if ema:
        for key in [key for key in tensors if key.startswith("model.diffusion_model.")]:
            tensors["model_ema." + key.removeprefix("model.").replace(".", "")] = 2 * tensors[key]
    if dtype is not None:
        tensors = {key: tensor.to(dtype) for key, tensor in tensors.items()}
    if change is not None:
        change(tensors)
    path.parent.mkdir(parents=True, exist_ok=True)
    stated = {"modelspec.resolution": f"{SIDE_PX}x{SIDE_PX}"} | dict(metadata or {})
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata=stated)
    return path


def single_file_tensors(folder: Path) -> Tensors:
    """Return the tensors of a pipeline folder under the keys of a checkpoint in one file."""
    unet = json.loads((folder / "unet/config.json").read_text())
    layers, attended = unet["layers_per_block"], [kind.startswith("Cross") for kind in unet["up_block_types"]]
    keys = {
        "model.diffusion_model." + unet_key(name, layers, attended): tensor
        for name, tensor in _weights(folder / "unet").items()
    }
    for name, tensor in _weights(folder / "vae").items():
        keys["first_stage_model." + vae_key(name)] = _kernel(name, tensor)
    if (folder / "text_encoder_2").is_dir():
        keys |= _clip(_weights(folder / "text_encoder"), "conditioner.embedders.0.transformer.text_model.")
        keys |= _open_clip(_weights(folder / "text_encoder_2"), "conditioner.embedders.1.model.")
    elif unet.get("use_linear_projection"):
        keys |= _open_clip(_with_last_layer(_weights(folder / "text_encoder")), "cond_stage_model.model.")
    else:
        keys |= _clip(_weights(folder / "text_encoder"), "cond_stage_model.transformer.text_model.")
    return keys


def _weights(part: Path) -> Tensors:
    (file,) = part.glob("*.safetensors")
    return load_file(file)


def unet_key(name: str, layers: int, attended: Sequence[bool]) -> str:
    """Return the original key; `attended` says which levels on the way up have attention."""
    for ours, original in _ENDS.items():
        if name.startswith(f"{ours}."):
            return original + _resnet(name.removeprefix(ours))
    side, level, kind, number, rest = re.fullmatch(
        r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)(\..+)", name
    ).groups()  # type: ignore[union-attr]
    block = int(level) * (layers + 1) + int(number) + (side == "down")
    if kind == "downsamplers":
        return f"input_blocks.{(int(level) + 1) * (layers + 1)}.0{rest.replace('.conv.', '.op.')}"
    if kind == "upsamplers":
        return f"output_blocks.{(int(level) + 1) * (layers + 1) - 1}.{1 + attended[int(level)]}{rest}"
    prefix = "input_blocks" if side == "down" else "output_blocks"
    return f"{prefix}.{block}.{int(kind == 'attentions')}{_resnet(rest)}"


def _resnet(rest: str) -> str:
    _, layer, *others = rest.split(".")
    return ".".join(["", _RESNET.get(layer, layer), *others])


def vae_key(name: str) -> str:
    """Return the original key of a tensor of the VAE, which has four levels."""
    for pattern, original in (
        (r"encoder\.down_blocks\.(\d)\.resnets\.(\d)", r"encoder.down.\1.block.\2"),
        (r"encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample"),
        (r"mid_block\.resnets\.0", "mid.block_1"),
        (r"mid_block\.resnets\.1", "mid.block_2"),
        (r"mid_block\.attentions\.0", "mid.attn_1"),
        (r"attn_1\.group_norm", "attn_1.norm"),
        (r"attn_1\.to_out\.0", "attn_1.proj_out"),
        (r"attn_1\.to_(q|k|v)", r"attn_1.\1"),
        (r"conv_norm_out", "norm_out"),
        (r"conv_shortcut", "nin_shortcut"),
    ):
        name = re.sub(pattern, original, name)
    kinds = {"resnets": "block", "upsamplers": "upsample"}
    match = re.fullmatch(r"decoder\.up_blocks\.(\d)\.(\w+)\.(\d)\.(.+)", name)
    if match is None:
        return name
    number = f".{match[3]}" if match[2] == "resnets" else ""
    return f"decoder.up.{3 - int(match[1])}.{kinds[match[2]]}{number}.{match[4]}"


def _kernel(name: str, tensor: Tensor) -> Tensor:
    """Return a matrix of the VAE's attention as a 1×1 convolution kernel."""
    return tensor[:, :, None, None] if ".attentions." in name and tensor.ndim == 2 else tensor


def _clip(tensors: Tensors, prefix: str) -> Tensors:
    named = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    positions = torch.arange(77)[None]  # old files hold them
    return {f"{prefix}{name}": tensor for name, tensor in named.items()} | {
        f"{prefix}embeddings.position_ids": positions
    }


def _with_last_layer(tensors: Tensors) -> Tensors:
    """Return the tensors of SD2's text encoder with the layer that it does not use."""
    last = max(int(match[1]) for name in tensors if (match := re.search(r"layers\.(\d+)\.", name)))
    more = {
        name.replace(f"layers.{last}.", f"layers.{last + 1}."): torch.zeros_like(tensor)
        for name, tensor in tensors.items()
        if f"layers.{last}." in name
    }
    return tensors | more


def _open_clip(tensors: Tensors, prefix: str) -> Tensors:
    named = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    keys: Tensors = {"logit_scale": torch.tensor(4.6)}
    for name, tensor in named.items():
        for pattern, original in (
            (r"embeddings\.token_embedding\.weight", "token_embedding.weight"),
            (r"embeddings\.position_embedding\.weight", "positional_embedding"),
            (r"final_layer_norm", "ln_final"),
            (r"encoder\.layers", "transformer.resblocks"),
            (r"layer_norm(\d)", r"ln_\1"),
            (r"self_attn\.out_proj", "attn.out_proj"),
            (r"mlp\.fc1", "mlp.c_fc"),
            (r"mlp\.fc2", "mlp.c_proj"),
        ):
            name = re.sub(pattern, original, name)
        if name == "text_projection.weight":
            keys["text_projection"] = tensor.T
        elif match := re.fullmatch(r"(.+)\.self_attn\.q_proj\.(\w+)", name):
            thirds = [named[_named_like(match[1], f"self_attn.{one}_proj.{match[2]}")] for one in "qkv"]
            keys[f"{match[1]}.attn.in_proj_{match[2]}"] = torch.cat(thirds)
        elif ".self_attn." not in name:
            keys[name] = tensor
    return {f"{prefix}{name}": tensor for name, tensor in keys.items()}


def _named_like(layer: str, rest: str) -> str:
    return f"{layer.replace('transformer.resblocks', 'encoder.layers')}.{rest}"
