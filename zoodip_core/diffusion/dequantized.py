"""Keeps the weights of small quantized models dequantized, instead of dequantizing them in each forward pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoodip_core.diffusion.quantize import QUANTIZED, QuantizedConv2d, QuantizedLinear, QuantizedWeight

CPU_BUDGET_MB = 64
"""Covers the embedded model (32 MB): INT8 gains 0 to 10 % of its speed, NF4 35 to 45 %. Packed kernels add to that.

On other devices the default is 0: nothing was measured there, and a small footprint is the purpose of quantization.
"""


def dequantized_budget_mb(budget_mb: int | None, device: torch.device) -> int:
    """Return the budget in 10⁶ bytes, or the default of the device for None."""
    if budget_mb is not None:
        return budget_mb
    return CPU_BUDGET_MB if device.type == "cpu" else 0


class DequantizedWeight(QuantizedWeight):
    """Result of a dequantization. The quantized values are freed.

    Calling it returns the same values, in the same memory order, as the quantized weight did.
    """

    weight: Float[Tensor, "out ..."]

    def __init__(self, quantized: QuantizedWeight) -> None:
        super().__init__()
        self.numel = quantized.numel
        self.register_buffer("weight", quantized())

    def forward(self) -> Float[Tensor, "out ..."]:
        """The weight in the compute dtype."""
        return self.weight


def _kept(layer: DequantizedLinear) -> Float[Tensor, "out ..."]:
    """Return the weight without two calls of modules, which take time in a small model."""
    return layer.quantized.weight


class DequantizedLinear(QuantizedLinear):
    """Linear layer with a `DequantizedWeight`."""

    quantized: DequantizedWeight
    weight = property(_kept)


class PackedKernel(DequantizedWeight):
    """Dequantized kernel of a convolution, in the memory order that oneDNN computes with."""

    def __init__(self, quantized: QuantizedWeight, layer: nn.Conv2d) -> None:
        super().__init__(quantized)
        self._order = torch.contiguous_format if self.weight.is_contiguous() else torch.channels_last
        options: tuple[Any, ...] = (layer.padding, layer.stride, layer.dilation, layer.groups)
        self.weight = torch._C._nn.mkldnn_reorder_conv2d_weight(self.weight.to_mkldnn(), *options)

    def forward(self) -> Float[Tensor, "out ..."]:
        """The weight in the compute dtype and in its earlier order."""
        return self.weight.to_dense().contiguous(memory_format=self._order)


class PackedConv2d(QuantizedConv2d):
    """Conv2d layer with a `PackedKernel`. Its results have the bits of torch's convolution.

    torch also computes batches of such a convolution with oneDNN, but reorders the kernel in each call. It computes
    a single row and gradients with other code, so these do not use the packed kernel.
    """

    quantized: PackedKernel

    def forward(self, input: Float[Tensor, "rows _ _ _"]) -> Float[Tensor, "rows _ _ _"]:
        """Return the convolution of each row."""
        if len(input) == 1 or torch.is_grad_enabled():
            return super().forward(input)
        output: Tensor = torch.ops.mkldnn._convolution_pointwise(
            input,
            self.quantized.weight,
            self.bias,
            self.padding,
            self.stride,
            self.dilation,
            self.groups,
            "none",
            [],
            "",
        )
        return output


def keep_dequantized(models: Iterable[nn.Module], *, packed: bool) -> None:
    """Dequantize all weights once, in place.

    Args:
        models: quantized models.
        packed: whether to pack the kernels of convolutions, on a CPU where that is faster. `torch.compile` cannot
            trace packed kernels.
    """
    packed = packed and packing_is_faster()
    for model in models:
        for layer in model.modules():
            if not isinstance(layer, QUANTIZED):
                continue
            if packed and isinstance(layer, QuantizedConv2d) and _can_pack(layer):
                layer.quantized = PackedKernel(layer.quantized, layer)
                layer.__class__ = PackedConv2d
                continue
            layer.quantized = DequantizedWeight(layer.quantized)
            if isinstance(layer, QuantizedLinear):
                layer.__class__ = DequantizedLinear


def packing_is_faster() -> bool:
    """Return whether this CPU computes faster with packed kernels: it has AVX-512.

    With AVX2 alone a search took two to four times as long (docs/decisions/0042-packed-kernels.md).
    """
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def _can_pack(layer: QuantizedConv2d) -> bool:
    """Return whether torch computes batches of this convolution with oneDNN, at any size of the image."""
    scale = layer.quantized.scale
    return (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch does not annotate it
        and scale.device.type == "cpu"
        and scale.dtype == torch.float32
        and layer.kernel_size[0] > 1
        and layer.padding_mode == "zeros"
    )
