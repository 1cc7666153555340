"""The model's parts in diffusers' folder layout: made anew, or read to go on from."""

from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from models.emoji.errors import CheckpointError, in_one_line
from models.emoji.settings import HEAD_WIDTH, DiffusionSettings
from models.emoji.tokenizer import BEGIN, END, MAX_TOKENS, WORD_END
from models.emoji.train.components import COMPONENTS
from models.emoji.train.device import Network

LATENT_PX = 8
SHIPPED = Path(__file__).parents[3] / "zoodip_core" / "assets" / "emoji"


def new_unet(settings: DiffusionSettings) -> Network:
    """A U-Net with cross-attention at every level, and fresh weights."""
    levels = len(settings.channels)
    unet: Network = UNet2DConditionModel(
        sample_size=LATENT_PX,
        in_channels=COMPONENTS,
        out_channels=COMPONENTS,
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        block_out_channels=settings.channels,
        layers_per_block=settings.layers_per_block,
        attention_head_dim=[channels // 32 for channels in settings.channels],
        cross_attention_dim=settings.text_width,
        norm_num_groups=16,
    )
    return unet


def text_config(width: int, layers: int, vocabulary: dict[str, int], **more: Any) -> CLIPTextConfig:
    """A small CLIP text encoder for a vocabulary."""
    return CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // HEAD_WIDTH),
        max_position_embeddings=MAX_TOKENS,
        hidden_act="gelu",
        bos_token_id=vocabulary[BEGIN],
        eos_token_id=vocabulary[END],
        pad_token_id=vocabulary[END],
        **more,
    )


def silence_untrained_rows(
    embedding: nn.Embedding, vocabulary: dict[str, int], words: tuple[str, ...]
) -> None:
    """Zero the rows of bytes and partial merges: no caption holds them, so no gradient ever moves them."""
    trained = {vocabulary[word + WORD_END] for word in words} | {vocabulary[BEGIN], vocabulary[END]}
    untrained = [row for row in range(len(vocabulary)) if row not in trained]
    with torch.no_grad():
        embedding.weight[untrained] = 0


def new_text_encoder(
    settings: DiffusionSettings, vocabulary: dict[str, int], words: tuple[str, ...]
) -> Network:
    """A CLIP text encoder with fresh weights."""
    encoder: Network = CLIPTextModel(text_config(settings.text_width, settings.text_layers, vocabulary))
    embedding = encoder.get_input_embeddings()
    nn.init.normal_(embedding.weight, std=0.05)
    silence_untrained_rows(embedding, vocabulary, words)
    return encoder


def read_part(kind: Any, folder: Path) -> Network:
    """A part of the shipped model, in fp32.

    Raises:
        CheckpointError: its folder is missing or truncated.
    """
    if not folder.is_dir():
        raise CheckpointError(f"there is no {folder}, which would hold a {kind.__name__}")
    try:
        part: Network = kind.from_pretrained(folder, low_cpu_mem_usage=False).float()  # True wants accelerate
    except Exception as broken:
        raise CheckpointError(f"{folder} holds no whole {kind.__name__}: {in_one_line(broken)}") from broken
    return part
