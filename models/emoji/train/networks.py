"""U-Net and text encoder: new, loaded from a model folder, or loaded from a training checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from models.emoji.errors import CheckpointError, in_one_line
from models.emoji.settings import HEAD_WIDTH, DiffusionSettings
from models.emoji.tokenizer import BEGIN, END, MAX_TOKENS, WORD_END, build_vocabulary
from models.emoji.train.compatibility import (
    check_sizes,
    check_vocabulary,
    compatibility_key,
    read_averaged_weights,
)
from models.emoji.train.components import COMPONENTS, Components
from models.emoji.train.device import Network
from models.emoji.world import World

PART = "diffusion"
LATENT_PX = 8
SHIPPED = Path(__file__).parents[3] / "zoodip_core" / "assets" / "emoji"


@dataclass(frozen=True)
class Networks:
    """U-Net and text encoder."""

    unet: Network
    text_encoder: Network

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """Return all parameters; names are prefixed with the network's name."""
        parts = (("unet", self.unet), ("text_encoder", self.text_encoder))
        return {f"{name}.{key}": param for name, part in parts for key, param in part.named_parameters()}


def new_unet(settings: DiffusionSettings) -> Network:
    """Return a new U-Net with cross-attention at every level."""
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
    """Return the configuration of a small CLIP text encoder for a vocabulary."""
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


def zero_untrained_rows(embedding: nn.Embedding, vocabulary: dict[str, int], words: tuple[str, ...]) -> None:
    """Zero the rows of bytes and partial merges: no caption contains them, so they get no gradient."""
    trained = {vocabulary[word + WORD_END] for word in words} | {vocabulary[BEGIN], vocabulary[END]}
    untrained = [row for row in range(len(vocabulary)) if row not in trained]
    with torch.no_grad():
        embedding.weight[untrained] = 0


def new_text_encoder(
    settings: DiffusionSettings, vocabulary: dict[str, int], words: tuple[str, ...]
) -> Network:
    """Return a new CLIP text encoder."""
    encoder: Network = CLIPTextModel(text_config(settings.text_width, settings.text_layers, vocabulary))
    embedding = encoder.get_input_embeddings()
    nn.init.normal_(embedding.weight, std=0.05)
    zero_untrained_rows(embedding, vocabulary, words)
    return encoder


def read_part(kind: Any, folder: Path) -> Network:
    """Load one part of a model folder in fp32.

    Args:
        kind: the class of diffusers or transformers.
        folder: the part's subfolder.

    Raises:
        CheckpointError: the folder is missing or broken.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: not found; expected a folder with {kind.__name__}")
    try:
        part: Network = kind.from_pretrained(folder, low_cpu_mem_usage=False).float()  # True needs accelerate
    except Exception as broken:
        raise CheckpointError(f"{folder}: cannot load {kind.__name__}: {in_one_line(broken)}") from broken
    return part


def load_networks(settings: DiffusionSettings, world: World, start: Path | None) -> Networks:
    """Load the networks of a model folder, or create new ones if `start` is None.

    Raises:
        CheckpointError: the folder is missing, broken, of other sizes, or of another vocabulary.
    """
    if start is None:
        vocabulary = build_vocabulary(world.words)
        return Networks(new_unet(settings), new_text_encoder(settings, vocabulary, world.words))
    check_vocabulary(world.words, start)
    found = Networks(
        read_part(UNet2DConditionModel, start / "unet"), read_part(CLIPTextModel, start / "text_encoder")
    )
    unet, text = found.unet.config, found.text_encoder.config
    sizes = {
        "channels": unet.block_out_channels,
        "layers_per_block": unet.layers_per_block,
        "text_width": text.hidden_size,
        "text_layers": text.num_hidden_layers,
    }
    check_sizes(PART, settings.sizes, sizes, start)
    return found


def load_trained_networks(
    settings: DiffusionSettings, world: World, components: Components, work: Path, start: Path | None
) -> Networks | None:
    """Load the averaged networks of a work folder's checkpoint.

    Without a checkpoint, load those of the model folder `start`. Return None if `start` is None too.

    Raises:
        CheckpointError: the weights are broken, or do not match the settings, words or components.
    """
    key = compatibility_key(settings, world.words, components.digest)
    average = read_averaged_weights(work / f"{PART}.pt", PART, key)
    if average is None:
        return None if start is None else load_networks(settings, world, start)
    found = load_networks(settings, world, None)
    for name, param in found.named_parameters().items():
        param.data.copy_(average[name])
    return found
