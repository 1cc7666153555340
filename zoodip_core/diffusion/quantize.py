"""Weight-only INT8 and NF4 quantization of frozen Linear and Conv2d layers; activations are never quantized.

A finite difference at μ = 1e-3 needs a loss that is smooth in θ. Rounding the weights shifts the loss once.
Rounding the activations turns the loss into a step function. docs/explanation/quantization.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeGuard

import torch
from bitsandbytes import functional as bnb
from jaxtyping import Float, Int8, UInt8
from torch import Tensor, nn

Bits = Literal["int8", "nf4"]

INT8_LOW, INT8_HIGH = -128, 127  # arXiv:2503.14868v1, Eq. (2) with N = 8
NF4_BLOCK = 64  # weights that share one scale; the default of bitsandbytes


class QuantizedWeight(nn.Module):
    """A frozen quantized weight. Calling it returns the dequantized weight in the dtype of `scale`.

    Attributes:
        values: quantized values.
        scale: scale factors in the compute dtype, so `.to(dtype)` also changes the compute dtype.
        numel: number of weights.
    """

    values: Tensor
    scale: Tensor
    numel: int


class Int8Weight(QuantizedWeight):
    """INT8 weight W ≈ s · clamp(round(W/s), −128, 127) with one scale s for each output channel.

    s is the smallest scale that clamps no weight. It is rounded to the compute dtype *before* W is divided by it,
    so storing it in 16 bits costs no accuracy. In fp16 it can be subnormal.

    Source: arXiv:2503.14868v1, Eq. (2)
    """

    values: Int8[Tensor, "out ..."]
    scale: Float[Tensor, "out ..."]

    def __init__(
        self, weight: Float[Tensor, "out ..."], dtype: torch.dtype, *, channels_last: bool = False
    ) -> None:
        """Quantize on the device of `weight`, a few rows at a time."""
        super().__init__()
        self.numel = weight.numel()
        order = _memory_format(weight, channels_last=channels_last)
        values = torch.empty_like(weight, dtype=torch.int8, memory_format=order)
        scale = weight.new_empty((len(weight), *[1] * (weight.ndim - 1)), dtype=dtype)
        rest = tuple(range(1, weight.ndim))
        for rows in _row_slices(weight):
            exact = weight[rows].detach().to(torch.float32, copy=True)
            highest, lowest = exact.amax(rest, keepdim=True), exact.amin(rest, keepdim=True)
            smallest = torch.maximum(highest / INT8_HIGH, lowest / INT8_LOW)
            scale[rows] = smallest.clamp_min(_least_scale(dtype))
            values[rows] = exact.div_(scale[rows]).round_().clamp_(INT8_LOW, INT8_HIGH)
        self.register_buffer("values", values)
        self.register_buffer("scale", scale)

    def forward(self) -> Float[Tensor, "out ..."]:
        """The weight in the compute dtype."""
        return self.values.to(self.scale.dtype).mul_(self.scale)


def _least_scale(dtype: torch.dtype) -> float:
    """Return the least scale: the smallest normal number, or the smallest subnormal one for fp16."""
    return 2.0**-24 if dtype == torch.float16 else torch.finfo(dtype).tiny


class Nf4Weight(QuantizedWeight):
    """NF4 weight: 4-bit NormalFloat values of bitsandbytes, with one scale for each block of 64.

    The weight is flattened, so a convolution kernel is quantized like a matrix. The memory format is kept:
    a channels_last kernel is flattened in channels_last order and restored in that order.
    """

    values: UInt8[Tensor, "bytes 1"]
    scale: Float[Tensor, " blocks"]

    def __init__(
        self, weight: Float[Tensor, "out ..."], dtype: torch.dtype, *, channels_last: bool = False
    ) -> None:
        """Quantize on the device of `weight`, a few rows at a time."""
        super().__init__()
        self.numel = weight.numel()
        order = _memory_format(weight, channels_last=channels_last)
        self.channels_last = order == torch.channels_last
        ordered = (weight.permute(0, 2, 3, 1) if self.channels_last else weight).detach()
        self.shape = ordered.shape
        blocks = -(-self.numel // NF4_BLOCK)
        values = torch.empty(blocks * NF4_BLOCK // 2, 1, dtype=torch.uint8, device=weight.device)
        scale = torch.empty(blocks, dtype=dtype, device=weight.device)
        done = 0
        for rows in _row_slices(weight):
            flat = ordered[rows].to(torch.float32).reshape(-1)
            flat = nn.functional.pad(flat, (0, -len(flat) % NF4_BLOCK)).view(-1, NF4_BLOCK)
            bits, state = bnb.quantize_4bit(flat, blocksize=NF4_BLOCK, quant_type="nf4")
            values[done * NF4_BLOCK // 2 :][: len(bits)] = bits
            scale[done:][: len(flat)] = state.absmax
            done += len(flat)
        self.register_buffer("values", values)
        self.register_buffer("scale", scale)

    def forward(self) -> Float[Tensor, "out ..."]:
        """The weight in the compute dtype."""
        state = bnb.QuantState(
            absmax=self.scale.float(),
            shape=torch.Size((len(self.scale), NF4_BLOCK)),
            dtype=self.scale.dtype,
            blocksize=NF4_BLOCK,
            quant_type="nf4",
        )
        flat: Tensor = bnb.dequantize_4bit(self.values, state).view(-1)[: self.numel]
        weight = flat.view(self.shape)
        return weight.permute(0, 3, 1, 2) if self.channels_last else weight


def _memory_format(weight: Tensor, *, channels_last: bool) -> torch.memory_format:
    """Return channels_last for kernels that have this order already or for which it is requested."""
    use_channels_last = weight.ndim == 4 and (channels_last or not weight.is_contiguous())
    return torch.channels_last if use_channels_last else torch.contiguous_format


def _row_slices(weight: Tensor) -> Iterator[slice]:
    """Return slices of about 2¹⁸ weights, so that fp32 copies stay small; multiples of 64 rows for NF4 blocks."""
    row_size = weight.numel() // len(weight)
    step = max(1, 2**18 // row_size // NF4_BLOCK) * NF4_BLOCK
    return (slice(start, start + step) for start in range(0, len(weight), step))


def _dequantized(layer: QuantizedLinear | QuantizedConv2d) -> Float[Tensor, "out ..."]:
    """Return the dequantized weight, so that code that reads `weight.dtype`, `.device` or `.shape` works."""
    weight: Tensor = layer.quantized()
    return weight


class QuantizedLinear(nn.Linear):
    """Linear layer that dequantizes `weight` on each read; the forward pass is torch's."""

    quantized: QuantizedWeight
    weight = property(_dequantized)


class QuantizedConv2d(nn.Conv2d):
    """Conv2d layer that dequantizes `weight` on each read; the forward pass is torch's."""

    quantized: QuantizedWeight
    weight = property(_dequantized)


QUANTIZED = (QuantizedLinear, QuantizedConv2d)


def is_quantizable(layer: nn.Module) -> TypeGuard[nn.Linear | nn.Conv2d]:
    """Return whether the layer is a Linear or Conv2d with torch's own forward pass (subclasses can override it)."""
    return type(layer).forward in (nn.Linear.forward, nn.Conv2d.forward)


def quantize_layer(
    layer: nn.Linear | nn.Conv2d,
    weight: Float[Tensor, "out ..."],
    *,
    precision: Bits,
    dtype: torch.dtype,
    channels_last: bool = False,
) -> QuantizedWeight:
    """Quantize `weight` and make the layer use it, in place.

    The class of the layer is replaced, as torch's parametrizations do: names, hooks, bias and options are kept.
    The layer can still be on the meta device while `weight` is not.

    Args:
        layer: layer to convert; its current weight is discarded unread.
        weight: weight in any floating-point dtype, on the device of the result.
        precision: "int8" or "nf4".
        dtype: compute dtype.
        channels_last: whether to store a kernel in channels_last order, whatever order `weight` has.

    Returns:
        The quantized weight of the layer.
    """
    kind = Int8Weight if precision == "int8" else Nf4Weight
    quantized = kind(weight, dtype, channels_last=channels_last)
    replace_weight(layer, quantized)
    return quantized


def replace_weight(layer: nn.Linear | nn.Conv2d, quantized: QuantizedWeight) -> None:
    """Make the layer use a weight that is already quantized, in place."""
    del layer._parameters["weight"]
    layer.__class__ = QuantizedConv2d if isinstance(layer, nn.Conv2d) else QuantizedLinear
    layer.quantized = quantized


def quantize_model(model: nn.Module, *, precision: Bits) -> nn.Module:
    """Freeze the model and quantize every Linear and Conv2d in place, each with the dtype of its weight.

    Use it for models in memory or on the meta device. `weights.load_quantized` never holds the whole
    unquantized model.
    """
    for layer in list(model.modules()):
        if is_quantizable(layer) and not isinstance(layer, QUANTIZED):
            quantize_layer(layer, layer.weight, precision=precision, dtype=layer.weight.dtype)
    return model.requires_grad_(False).eval()


@dataclass(frozen=True)
class QuantizationReport:
    """Parameter counts and size of a set of models."""

    parameters: int  # quantized or not
    quantized_parameters: int  # in INT8 or NF4
    linear_parameters: int  # weights of Linear layers, quantized or not
    conv_parameters: int  # weights of Conv2d layers, quantized or not
    size_bytes: int  # parameters and buffers

    @property
    def quantized_share(self) -> float:
        """Quantized share of all parameters, 0 to 1."""
        return self.quantized_parameters / self.parameters


def quantization_report(models: Iterable[nn.Module]) -> QuantizationReport:
    """Count the parameters and bytes of all models; tensors on the meta device count as if allocated."""
    kinds = {QuantizedWeight: 0, nn.Linear: 0, nn.Conv2d: 0}
    parameters = size_bytes = 0
    for model in models:
        for tensor in (*model.parameters(), *model.buffers()):
            size_bytes += tensor.numel() * tensor.element_size()
        parameters += sum(parameter.numel() for parameter in model.parameters())
        for layer in model.modules():
            weight = layer.quantized if isinstance(layer, QUANTIZED) else getattr(layer, "weight", None)
            count = weight.numel if isinstance(weight, QuantizedWeight) else 0
            kinds[QuantizedWeight] += count
            for kind in (nn.Linear, nn.Conv2d):
                if isinstance(layer, kind):
                    kinds[kind] += count or layer.weight.numel()
    return QuantizationReport(
        parameters=parameters + kinds[QuantizedWeight],
        quantized_parameters=kinds[QuantizedWeight],
        linear_parameters=kinds[nn.Linear],
        conv_parameters=kinds[nn.Conv2d],
        size_bytes=size_bytes,
    )
