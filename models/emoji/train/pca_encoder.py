"""An AutoencoderKL whose encoder computes the principal components exactly, without training.

- Strided convolutions gather 2 × 2 pixels into channels (space to depth).
- Residual blocks are identities.
- The last strided convolution projects onto the components.
- Each latent is carried twice, as z and −z, because silu(z) − silu(−z) = z undoes the last SiLU.
- Large constant channels make the statistics of the last GroupNorm almost independent of the picture.

The encoder is correct from the first step, so all of the training goes into the decoder.
"""

import math

import torch
from diffusers import AutoencoderKL
from torch import nn

from models.emoji.settings import AutoencoderSettings
from models.emoji.train.components import COMPONENTS, PATCH_PX, Components
from models.emoji.train.device import Network

CONSTANT = 8.0  # value of the constant channels; latents are about 1
POSTERIOR_STD = 0.03


def new_autoencoder(settings: AutoencoderSettings, components: Components) -> Network:
    """Return an autoencoder with the encoder set to the components and a new decoder."""
    levels = len(settings.channels)
    model: Network = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=settings.channels,
        layers_per_block=settings.layers_per_block,
        latent_channels=COMPONENTS,
        norm_num_groups=settings.norm_groups,
        sample_size=64,
        scaling_factor=1.0,
    )
    zero_residual_branches(model)
    _set_encoder(model, components, settings)
    return model


def zero_residual_branches(model: Network) -> None:
    """Make every residual block and attention layer an identity."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and name.endswith((".conv2", ".to_out.0")):
            nn.init.zeros_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _set_identity(conv: Network, channels: int) -> None:
    """Make a convolution copy its first channels and drop the others."""
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    middle = conv.kernel_size[0] // 2
    for channel in range(channels):
        conv.weight.data[channel, channel, middle, middle] = 1


def _set_patch_map(conv: Network, matrix: torch.Tensor, bias: torch.Tensor) -> None:
    """Make a stride-2 convolution apply a matrix [out, 2·2·in] to 2 × 2 cells in reading order."""
    outputs, inputs = matrix.shape[0], matrix.shape[1] // 4
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    conv.weight.data[:outputs, :inputs, :2, :2] = matrix.view(outputs, 2, 2, inputs).permute(0, 3, 1, 2)
    conv.bias.data[:outputs] = bias


def _nested_axes(components: Components) -> torch.Tensor:
    """Return the scaled axes with columns in the order of nested space to depth, [16, 4·4·4·3].

    The order goes from the outermost cell of 4 × 4 pixels to the innermost pixel, channels last.
    """
    axes = (components.axes / components.scale[:, None]).view(-1, 3, 2, 2, 2, 2, 2, 2)
    # channel, y4 y2 y1, x4 x2 x1 -> y4 x4, y2 x2, y1 x1, channel
    return axes.permute(0, 2, 5, 3, 6, 4, 7, 1).reshape(len(axes), -1)


def _set_encoder(model: Network, components: Components, settings: AutoencoderSettings) -> None:
    """Set the encoder's weights to the components."""
    encoder, width = model.encoder, settings.channels[1]
    _set_identity(encoder.conv_in, 3)
    cells = 3 * 4
    blocks = encoder.down_blocks
    _set_patch_map(blocks[0].downsamplers[0].conv, torch.eye(cells), torch.zeros(cells))
    _set_identity(blocks[1].resnets[0].conv_shortcut, cells)
    axes = _nested_axes(components)
    # 48 values per 4 × 4 patch: keep the directions that matter most to the components
    _, _, directions = torch.linalg.svd(axes.view(-1, 4 * cells), full_matrices=False)
    kept = directions[: min(width, 4 * cells)]
    _set_patch_map(blocks[1].downsamplers[0].conv, kept, torch.zeros(len(kept)))
    _set_identity(blocks[2].resnets[0].conv_shortcut, len(kept))
    projected = (axes.view(-1, 4, 4 * cells) @ kept.T).reshape(COMPONENTS, -1)
    shift = components.mean @ components.axes.T / components.scale
    _set_patch_map(blocks[2].downsamplers[0].conv, projected, -shift)
    _set_identity(blocks[3].resnets[0].conv_shortcut, COMPONENTS)
    _set_head(model, settings)


def _set_head(model: Network, settings: AutoencoderSettings) -> None:
    """Pass z and −z through the last norm and SiLU, with constant channels that fix the norm's scale."""
    encoder, width, groups = model.encoder, settings.channels[-1], settings.norm_groups
    size = width // groups
    pairs = COMPONENTS // groups  # latents per group; each takes two channels, constants take the others
    shortcut = encoder.down_blocks[-1].resnets[0].conv_shortcut
    nn.init.zeros_(shortcut.weight)
    nn.init.zeros_(shortcut.bias)
    norm, head = encoder.conv_norm_out, encoder.conv_out
    nn.init.zeros_(norm.bias)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    constants = size - 2 * pairs
    # expected standard deviation of a group of latents with variance 1 and constants
    spread = math.sqrt((2 * pairs + constants * CONSTANT**2) / size)
    for latent in range(COMPONENTS):
        group, place = divmod(latent, pairs)
        for sign, channel in ((1.0, group * size + 2 * place), (-1.0, group * size + 2 * place + 1)):
            shortcut.weight.data[channel, latent, 0, 0] = sign
            norm.weight.data[channel] = spread
            head.weight.data[latent, channel, 1, 1] = sign
    for group in range(groups):
        for index in range(constants):
            shortcut.bias.data[group * size + 2 * pairs + index] = CONSTANT if index % 2 else -CONSTANT
    head.bias.data[COMPONENTS:] = 2 * math.log(POSTERIOR_STD)
    _set_identity(model.quant_conv, 2 * COMPONENTS)
    _set_identity(model.post_quant_conv, COMPONENTS)


def encoder_error(model: Network, components: Components, pictures: torch.Tensor) -> float:
    """Return the mean squared error of the encoder's latents against the components', whose variance is 1."""
    if pictures.shape[-1] % PATCH_PX:
        raise ValueError(f"pictures: got width {pictures.shape[-1]}; expected a multiple of {PATCH_PX}")
    with torch.no_grad():
        mean = model.encode(pictures).latent_dist.mean
    return float((mean - components.encode(pictures)).square().mean())
