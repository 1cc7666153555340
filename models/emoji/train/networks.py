"""The two networks that are trained together: fresh, of a model folder, or as a training has left them."""

from dataclasses import dataclass
from pathlib import Path

from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel

from models.emoji.settings import DiffusionSettings
from models.emoji.tokenizer import build_vocabulary
from models.emoji.train.components import Components
from models.emoji.train.device import Network
from models.emoji.train.fit import averaged, check_sizes, check_vocabulary, made_for
from models.emoji.train.folder import new_text_encoder, new_unet, read_part
from models.emoji.world import World

PART = "diffusion"


@dataclass(frozen=True)
class Networks:
    """U-Net and text encoder."""

    unet: Network
    text_encoder: Network

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """All parameters, with the network's name before their own."""
        parts = (("unet", self.unet), ("text_encoder", self.text_encoder))
        return {f"{name}.{key}": param for name, part in parts for key, param in part.named_parameters()}


def networks(settings: DiffusionSettings, world: World, start: Path | None) -> Networks:
    """The networks of a model folder, or fresh ones for None.

    Raises:
        CheckpointError: the folder is missing, truncated, of other sizes, or of another vocabulary.
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


def trained_networks(
    settings: DiffusionSettings, world: World, components: Components, work: Path, start: Path | None
) -> Networks | None:
    """The averaged networks of a work folder's training; without one, those to start from; None if there are none.

    Raises:
        CheckpointError: they are truncated, or made for other settings, words or components.
    """
    asked = made_for(settings, world.words, components.digest)
    average = averaged(work / f"{PART}.pt", PART, asked)
    if average is None:
        return None if start is None else networks(settings, world, start)
    found = networks(settings, world, None)
    for name, param in found.named_parameters().items():
        param.data.copy_(average[name])
    return found
