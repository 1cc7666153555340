"""Keeps the weights of small quantized models dequantized, instead of dequantizing them in each forward pass."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoodip_core.diffusion.quantize import QUANTIZED, QuantizedWeight

CPU_BUDGET_MB = 64
"""Covers the embedded model (32 MB): INT8 gains 0 to 10 % of its speed, NF4 35 to 45 %.

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


def keep_dequantized(models: Iterable[nn.Module]) -> None:
    """Dequantize all weights once, in place."""
    for model in models:
        for layer in model.modules():
            if isinstance(layer, QUANTIZED):
                layer.quantized = DequantizedWeight(layer.quantized)
