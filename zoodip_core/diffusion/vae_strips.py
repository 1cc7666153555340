"""Runs the VAE of large images in strips of rows, so that temporary tensors stay small. There are no seams.

Each layer computes its output strip by strip, from the rows that a convolution of the whole image would read. Group
norms take their statistics from the whole image. The result is that of the whole image, up to rounding. Only the
input and the output of a layer are whole tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from diffusers.models.unets.unet_2d_blocks import DownEncoderBlock2D, UpDecoderBlock2D
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

STRIP_PIXELS = 2**15
"""Output pixels of one strip: 64 rows of 512."""
WHOLE_PIXELS = 256 * 256
"""Images up to this size run whole: strips would save little memory."""

_Rows = Callable[[int, int], Tensor]
"""Returns the rows [first, last) of the input of a convolution."""


def encode(vae: Any, image: Float[Tensor, "1 c h w"]) -> Float[Tensor, "1 moments cells_h cells_w"]:
    """Return the moments of the latent posterior, in strips if the image is large."""
    if not _runs_in_strips(vae, image.shape[2] * image.shape[3]):
        moments: Tensor = vae.encode(image, return_dict=False)[0].parameters
        return moments
    encoder = vae.encoder
    hidden = _convolved(encoder.conv_in, _rows_of(image), image)
    for block in encoder.down_blocks:
        for resnet in block.resnets:
            hidden = _resnet(resnet, hidden)
        for sampler in block.downsamplers or ():
            hidden = _convolved(sampler.conv, _rows_of(hidden), hidden, padding=(0, 1))
    hidden = _middle(encoder.mid_block, hidden)
    hidden = _convolved(encoder.conv_out, _activated(encoder.conv_norm_out, hidden), hidden)
    return hidden if vae.quant_conv is None else vae.quant_conv(hidden)


def decode(vae: Any, latent: Float[Tensor, "1 c cells_h cells_w"]) -> Float[Tensor, "1 3 h w"]:
    """Return the image of a latent in the VAE's scale, in strips if the image is large."""
    cell = 2 ** (len(vae.config.block_out_channels) - 1)
    if not _runs_in_strips(vae, latent.shape[2] * latent.shape[3] * cell**2):
        image: Tensor = vae.decode(latent, return_dict=False)[0]
        return image
    decoder = vae.decoder
    hidden = latent if vae.post_quant_conv is None else vae.post_quant_conv(latent)
    hidden = _middle(decoder.mid_block, _convolved(decoder.conv_in, _rows_of(hidden), hidden))
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            hidden = _resnet(resnet, hidden)
        for sampler in block.upsamplers or ():
            hidden = _convolved(sampler.conv, _upsampled(hidden), hidden, upsampled=True)
    return _convolved(decoder.conv_out, _activated(decoder.conv_norm_out, hidden), hidden)


def _runs_in_strips(vae: Any, pixels: int) -> bool:
    blocks = [*vae.encoder.down_blocks, *vae.decoder.up_blocks]
    known = all(type(block) in (DownEncoderBlock2D, UpDecoderBlock2D) for block in blocks)
    return known and pixels > WHOLE_PIXELS


def _middle(block: Any, hidden: Tensor) -> Tensor:
    """Run the middle block in strips; its attention, which needs all cells, runs whole."""
    hidden = _resnet(block.resnets[0], hidden)
    for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
        if attention is not None:
            hidden = attention(hidden)
        hidden = _resnet(resnet, hidden)
    return hidden


def _resnet(block: Any, hidden: Tensor) -> Tensor:
    """Run a residual block. Without a shortcut convolution, the result replaces the input."""
    inner = _convolved(block.conv1, _activated(block.norm1, hidden), hidden)
    residual = _convolution_strips(block.conv2, _activated(block.norm2, inner), inner)
    if block.conv_shortcut is None:
        for first, last, strip in residual:
            hidden[:, :, first:last] += strip
        return hidden.div_(block.output_scale_factor)
    output = torch.empty_like(inner)  # not `inner` itself, which later strips read
    for first, last, strip in residual:
        output[:, :, first:last] = block.conv_shortcut(hidden[:, :, first:last]) + strip
    return output.div_(block.output_scale_factor)


def _convolved(
    conv: Any, rows: _Rows, like: Tensor, *, padding: tuple[int, int] | None = None, upsampled: bool = False
) -> Tensor:
    """Return the whole output of a convolution, computed in strips; see `_convolution_strips`."""
    output = None
    for first, last, strip in _convolution_strips(conv, rows, like, padding=padding, upsampled=upsampled):
        if output is None:
            scale = 2 if upsampled else 1
            height = scale * like.shape[2] // conv.stride[0]
            output = strip.new_empty(1, strip.shape[1], height, strip.shape[3])
        output[:, :, first:last] = strip
    assert output is not None, "an image has at least one row"
    return output


def _convolution_strips(
    conv: Any, rows: _Rows, like: Tensor, *, padding: tuple[int, int] | None = None, upsampled: bool = False
) -> Iterator[tuple[int, int, Tensor]]:
    """Yield first row, last row (exclusive) and values of each strip of the output.

    Args:
        conv: the layer; a quantized weight is dequantized once.
        rows: reads its input.
        like: tensor of the input's size, before upsampling.
        padding: zeros before and after each side of the input; None for those of the layer.
        upsampled: whether `rows` has twice the size of `like`.
    """
    scale = 2 if upsampled else 1
    height, width = scale * like.shape[2], scale * like.shape[3]
    before, after = padding or (conv.padding[0], conv.padding[0])
    (kernel, _), (stride, _) = conv.kernel_size, conv.stride
    weight, total = conv.weight, height // stride
    step = max(1, STRIP_PIXELS // (width // stride))
    for first in range(0, total, step):
        last = min(first + step, total)
        start, stop = first * stride - before, (last - 1) * stride - before + kernel
        strip = rows(max(start, 0), min(stop, height))
        edges = (before, after, max(-start, 0), max(stop - height, 0))
        yield first, last, functional.conv2d(functional.pad(strip, edges), weight, conv.bias, conv.stride)


def _rows_of(hidden: Tensor) -> _Rows:
    return lambda first, last: hidden[:, :, first:last]


def _upsampled(hidden: Tensor) -> _Rows:
    """Return the rows of the tensor at twice its size, by nearest neighbors."""

    def rows(first: int, last: int) -> Tensor:
        doubled = functional.interpolate(hidden[:, :, first // 2 : (last + 1) // 2], scale_factor=2.0)
        return doubled[:, :, first % 2 : first % 2 + last - first]

    return rows


def _activated(norm: Any, hidden: Tensor) -> _Rows:
    """Return the rows of the tensor after a group norm of the whole image and SiLU."""
    mean, variance = _channel_statistics(hidden)
    grouped = mean.view(norm.num_groups, -1)
    group_mean = grouped.mean(dim=1, keepdim=True)
    spread = (variance.view_as(grouped) + (grouped - group_mean).square()).mean(dim=1, keepdim=True)
    factor = (spread + norm.eps).rsqrt().expand_as(grouped).reshape(-1) * norm.weight.cpu().double()
    columns = (group_mean.expand_as(grouped).reshape(-1), factor, norm.bias)
    center, scale, shift = (column.view(1, -1, 1, 1).to(hidden.device, torch.float32) for column in columns)
    return lambda first, last: functional.silu(
        (hidden[:, :, first:last].float() - center).mul_(scale).add_(shift)
    ).to(hidden.dtype)


def _channel_statistics(hidden: Tensor) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Return mean and variance of each channel in fp64 and on the CPU, because some devices have no fp64."""
    step = max(1, STRIP_PIXELS // hidden.shape[3])
    parts = torch.split(hidden, step, dim=2)
    moments = [torch.var_mean(part.float(), dim=(0, 2, 3), correction=0) for part in parts]
    shares = torch.tensor([[part.shape[2] / hidden.shape[2]] for part in parts], dtype=torch.float64)
    variances, means = (torch.stack(column).cpu().double() for column in zip(*moments, strict=True))
    mean = (shares * means).sum(dim=0)
    return mean, (shares * (variances + (means - mean).square())).sum(dim=0)
