"""An AutoencoderKL whose encoder *is* the principal-component map, set instead of trained.

Its strided convolutions gather 2 × 2 pixels into channels (space to depth), the residual blocks start as
identities, and the last strided convolution projects on the components. The last SiLU is undone exactly by
carrying each latent twice, as z and −z, since silu(z) − silu(−z) = z. The last GroupNorm would scale each
picture by its own spread; constant channels beside the latents, larger than them, make that spread almost a
constant. So the encoder is right from the first step, and all of the training goes to the decoder.
"""

import math

import torch
from diffusers import AutoencoderKL
from torch import nn

from models.emoji.settings import AutoencoderSettings
from models.emoji.train.components import COMPONENTS, PATCH_PX, Components
from models.emoji.train.device import Network

CONSTANT = 8.0  # of the channels beside the latents, whose own values are about 1
POSTERIOR_STD = 0.03


def new_autoencoder(settings: AutoencoderSettings, components: Components) -> Network:
    """The autoencoder with its encoder wired to the components, and a fresh decoder."""
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
    _wire(model, components, settings)
    return model


def zero_residual_branches(model: Network) -> None:
    """Start every residual block and attention as its shortcut."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and name.endswith((".conv2", ".to_out.0")):
            nn.init.zeros_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _identity(conv: Network, channels: int) -> None:
    """Make a convolution copy its first channels and drop the rest."""
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    middle = conv.kernel_size[0] // 2
    for channel in range(channels):
        conv.weight.data[channel, channel, middle, middle] = 1


def _set_patch_map(conv: Network, matrix: torch.Tensor, bias: torch.Tensor) -> None:
    """Make a stride-2 convolution map 2 × 2 cells: matrix [out, 2·2·in], cells in reading order."""
    outputs, inputs = matrix.shape[0], matrix.shape[1] // 4
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    conv.weight.data[:outputs, :inputs, :2, :2] = matrix.view(outputs, 2, 2, inputs).permute(0, 3, 1, 2)
    conv.bias.data[:outputs] = bias


def _nested_axes(components: Components) -> torch.Tensor:
    """The components' axes over scale, with columns nested as space to depth nests pixels: [16, 4·4·4·3].

    Columns go from the outermost cell of 4 × 4 pixels to the innermost pixel, channels last.
    """
    axes = (components.axes / components.scale[:, None]).view(-1, 3, 2, 2, 2, 2, 2, 2)
    # channel, y4 y2 y1, x4 x2 x1 -> y4 x4, y2 x2, y1 x1, channel
    return axes.permute(0, 2, 5, 3, 6, 4, 7, 1).reshape(len(axes), -1)


def _wire(model: Network, components: Components, settings: AutoencoderSettings) -> None:
    """Set the encoder's weights."""
    encoder, width = model.encoder, settings.channels[1]
    _identity(encoder.conv_in, 3)
    cells = 3 * 4
    blocks = encoder.down_blocks
    _set_patch_map(blocks[0].downsamplers[0].conv, torch.eye(cells), torch.zeros(cells))
    _identity(blocks[1].resnets[0].conv_shortcut, cells)
    axes = _nested_axes(components)
    # 48 numbers a 4 × 4 patch: keep the directions that the components look at most
    _, _, directions = torch.linalg.svd(axes.view(-1, 4 * cells), full_matrices=False)
    kept = directions[: min(width, 4 * cells)]
    _set_patch_map(blocks[1].downsamplers[0].conv, kept, torch.zeros(len(kept)))
    _identity(blocks[2].resnets[0].conv_shortcut, len(kept))
    projected = (axes.view(-1, 4, 4 * cells) @ kept.T).reshape(COMPONENTS, -1)
    shift = components.mean @ components.axes.T / components.scale
    _set_patch_map(blocks[2].downsamplers[0].conv, projected, -shift)
    _identity(blocks[3].resnets[0].conv_shortcut, COMPONENTS)
    _wire_head(model, settings)


def _wire_head(model: Network, settings: AutoencoderSettings) -> None:
    """Carry z and −z through the last norm and SiLU, with constants that fix the norm's scale."""
    encoder, width, groups = model.encoder, settings.channels[-1], settings.norm_groups
    size = width // groups
    pairs = COMPONENTS // groups  # a group holds so many latents, twice, then constants of both signs
    shortcut = encoder.down_blocks[-1].resnets[0].conv_shortcut
    nn.init.zeros_(shortcut.weight)
    nn.init.zeros_(shortcut.bias)
    norm, head = encoder.conv_norm_out, encoder.conv_out
    nn.init.zeros_(norm.bias)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    constants = size - 2 * pairs
    # the expected spread of a group: latents of variance 1 among the constants
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
    _identity(model.quant_conv, 2 * COMPONENTS)
    _identity(model.post_quant_conv, COMPONENTS)


def encoder_error(model: Network, components: Components, pictures: torch.Tensor) -> float:
    """The mean squared difference between the encoder's latents and the components', whose variance is 1."""
    if pictures.shape[-1] % PATCH_PX:
        raise ValueError(f"pictures must be a multiple of {PATCH_PX} wide")
    with torch.no_grad():
        mean = model.encode(pictures).latent_dist.mean
    return float((mean - components.encode(pictures)).square().mean())
