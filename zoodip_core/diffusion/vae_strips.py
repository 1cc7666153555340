"""Runs the VAE of large images in strips of rows, so that temporary tensors stay small. There are no seams.

Each layer computes its output strip by strip, from the rows that a convolution of the whole image would read. Group
norms take their statistics from the whole image. The result is that of the whole image, up to rounding.

Between two layers a small feature map is stored. A large one is computed again whenever its rows are read: once for
the statistics of the next group norm, and once for the next convolution. So at the full size of the image only the
input and the output of a residual block are whole tensors, and a block without a shortcut writes into its input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers.models.unets.unet_2d_blocks import DownEncoderBlock2D, UpDecoderBlock2D
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

STRIP_PIXELS = 2**13
"""Pixels of one strip of a feature map: 16 rows of 512."""
STORED_VALUES = 2**25
"""Values of a feature map that is stored between two layers: 128 channels of 512 x 512."""
WHOLE_PIXELS = 256 * 256
"""Images up to this size run whole: strips would save little memory."""

_LEAST_ROWS = 2
"""Rows of the smallest strip, because a residual block reads two rows around each of its output."""


@dataclass(frozen=True)
class _Map:
    """Feature map of one image.

    Attributes:
        channels: number of channels.
        height: rows.
        width: columns.
        rows: returns the rows [first, last), from memory or computed.
        stored: all values, if they are in memory.
    """

    channels: int
    height: int
    width: int
    rows: Callable[[int, int], Tensor]
    stored: Tensor | None = None

    def strips(self) -> Iterator[tuple[int, int]]:
        """Return first and last row (exclusive) of each strip."""
        step = max(_LEAST_ROWS, STRIP_PIXELS // self.width)
        return ((first, min(first + step, self.height)) for first in range(0, self.height, step))


def encode(vae: Any, image: Float[Tensor, "1 c h w"]) -> Float[Tensor, "1 moments cells_h cells_w"]:
    """Return the moments of the latent posterior, in strips if the image is large."""
    if not _runs_in_strips(vae, image.shape[2] * image.shape[3]):
        moments: Tensor = vae.encode(image, return_dict=False)[0].parameters
        return moments
    encoder = vae.encoder
    hidden = _store(_convolved(encoder.conv_in, _map_of(image)))
    for block in encoder.down_blocks:
        for resnet in block.resnets:
            hidden = _resnet(resnet, hidden)
        for sampler in block.downsamplers or ():
            hidden = _store(_convolved(sampler.conv, hidden, padding=(0, 1)))
    output = _output(encoder, _middle(encoder.mid_block, hidden))
    return output if vae.quant_conv is None else vae.quant_conv(output)


def decode(vae: Any, latent: Float[Tensor, "1 c cells_h cells_w"]) -> Float[Tensor, "1 3 h w"]:
    """Return the image of a latent in the VAE's scale, in strips if the image is large."""
    cell = 2 ** (len(vae.config.block_out_channels) - 1)
    if not _runs_in_strips(vae, latent.shape[2] * latent.shape[3] * cell**2):
        image: Tensor = vae.decode(latent, return_dict=False)[0]
        return image
    decoder = vae.decoder
    entry = latent if vae.post_quant_conv is None else vae.post_quant_conv(latent)
    hidden = _middle(decoder.mid_block, _store(_convolved(decoder.conv_in, _map_of(entry))))
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            hidden = _resnet(resnet, hidden)
        for sampler in block.upsamplers or ():
            hidden = _store_if_small(_convolved(sampler.conv, _upsampled(hidden)))
    return _output(decoder, hidden)


def _runs_in_strips(vae: Any, pixels: int) -> bool:
    blocks = [*vae.encoder.down_blocks, *vae.decoder.up_blocks]
    known = all(type(block) in (DownEncoderBlock2D, UpDecoderBlock2D) for block in blocks)
    return known and pixels > WHOLE_PIXELS


def _output(part: Any, hidden: _Map) -> Tensor:
    """Run the last layers of the encoder or the decoder."""
    return _values(_store(_convolved(part.conv_out, _activated(part.conv_norm_out, hidden))))


def _middle(block: Any, hidden: _Map) -> _Map:
    """Run the middle block in strips; its attention, which needs all cells, runs whole."""
    hidden = _resnet(block.resnets[0], hidden)
    for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
        if attention is not None:
            hidden = _map_of(attention(_values(hidden)))
        hidden = _resnet(resnet, hidden)
    return hidden


def _resnet(block: Any, source: _Map) -> _Map:
    """Run a residual block. Without a shortcut convolution, the result replaces a stored input."""
    inner = _store_if_small(_convolved(block.conv1, _activated(block.norm1, source)))
    residual = _convolved(block.conv2, _activated(block.norm2, inner))

    def rows(first: int, last: int) -> Tensor:
        kept = source.rows(first, last)
        if block.conv_shortcut is not None:
            kept = block.conv_shortcut(kept)
        return (kept + residual.rows(first, last)).div_(block.output_scale_factor)

    target = source.stored if block.conv_shortcut is None else None
    return _store(replace(residual, rows=rows), target)


def _store(computed: _Map, target: Tensor | None = None) -> _Map:
    """Compute all rows into `target`, or into a new tensor.

    The rows may depend on `target`. A strip is therefore written only after the next one, which reads its last rows.
    """
    previous: tuple[slice, Tensor] | None = None
    for first, last in computed.strips():
        strip = computed.rows(first, last)
        if target is None:
            target = strip.new_empty(1, computed.channels, computed.height, computed.width)
        if previous is not None:
            target[:, :, previous[0]] = previous[1]
        previous = slice(first, last), strip
    assert target is not None, "an image has at least one row"
    assert previous is not None, "an image has at least one row"
    target[:, :, previous[0]] = previous[1]
    return _map_of(target)


def _store_if_small(computed: _Map) -> _Map:
    is_small = computed.channels * computed.height * computed.width <= STORED_VALUES
    return _store(computed) if is_small else computed


def _map_of(values: Tensor) -> _Map:
    _, channels, height, width = values.shape
    return _Map(channels, height, width, lambda first, last: values[:, :, first:last], values)


def _values(hidden: _Map) -> Tensor:
    assert hidden.stored is not None, "residual blocks store their output"
    return hidden.stored


def _convolved(conv: Any, source: _Map, *, padding: tuple[int, int] | None = None) -> _Map:
    """Return the output of a convolution, which is not computed yet.

    Args:
        conv: the layer; a quantized weight is dequantized once.
        source: its input.
        padding: zeros before and after each side of the input; None for those of the layer.
    """
    before, after = padding or (conv.padding[0], conv.padding[0])
    (kernel, _), (stride, _) = conv.kernel_size, conv.stride
    weight = conv.weight

    def rows(first: int, last: int) -> Tensor:
        start, stop = first * stride - before, (last - 1) * stride - before + kernel
        strip = source.rows(max(start, 0), min(stop, source.height))
        edges = (before, after, max(-start, 0), max(stop - source.height, 0))
        return functional.conv2d(functional.pad(strip, edges), weight, conv.bias, conv.stride)

    return _Map(conv.out_channels, source.height // stride, source.width // stride, rows)


def _upsampled(source: _Map) -> _Map:
    """Return the map at twice its size, by nearest neighbors."""

    def rows(first: int, last: int) -> Tensor:
        doubled = functional.interpolate(source.rows(first // 2, (last + 1) // 2), scale_factor=2.0)
        return doubled[:, :, first % 2 : first % 2 + last - first]

    return _Map(source.channels, 2 * source.height, 2 * source.width, rows)


def _activated(norm: Any, source: _Map) -> _Map:
    """Return the map after a group norm of the whole image and SiLU."""
    mean, variance = _channel_statistics(source)
    grouped = mean.view(norm.num_groups, -1)
    group_mean = grouped.mean(dim=1, keepdim=True)
    spread = (variance.view_as(grouped) + (grouped - group_mean).square()).mean(dim=1, keepdim=True)
    factor = (spread + norm.eps).rsqrt().expand_as(grouped).reshape(-1) * norm.weight.cpu().double()
    columns = (group_mean.expand_as(grouped).reshape(-1), factor, norm.bias)
    device = norm.bias.device
    center, scale, shift = (column.view(1, -1, 1, 1).to(device, torch.float32) for column in columns)

    def rows(first: int, last: int) -> Tensor:
        strip = source.rows(first, last)
        normed = (strip.float() - center).mul_(scale).add_(shift)
        return functional.silu(normed, inplace=True).to(strip.dtype)

    return replace(source, rows=rows, stored=None)


def _channel_statistics(source: _Map) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Return mean and variance of each channel in fp64 and on the CPU, because some devices have no fp64."""
    strips = list(source.strips())
    moments = [torch.var_mean(source.rows(*strip).float(), dim=(0, 2, 3), correction=0) for strip in strips]
    shares = torch.tensor([[last - first] for first, last in strips], dtype=torch.float64) / source.height
    variances, means = (torch.stack(column).cpu().double() for column in zip(*moments, strict=True))
    mean = (shares * means).sum(dim=0)
    return mean, (shares * (variances + (means - mean).square())).sum(dim=0)
