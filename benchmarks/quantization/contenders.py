"""Quantization methods for the frozen model: this project's and those of three libraries."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from bitsandbytes import functional as bnb
from bitsandbytes.nn import Linear8bitLt
from torch import Tensor, nn

from zoodip_core.diffusion.quantize import (
    QuantizedWeight,
    is_quantizable,
    quantize_model,
    replace_weight,
)


class BlockwiseWeight(QuantizedWeight):
    """Blockwise 8-bit code of bitsandbytes, through its functional kernels: no layer of the library uses it."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.numel, self.shape = weight.numel(), weight.shape
        values, state = bnb.quantize_blockwise(weight.detach().reshape(-1), blocksize=256)
        self.register_buffer("values", values)
        self.register_buffer("scale", state.absmax)
        self.register_buffer("code", state.code)
        self.dtype = weight.dtype

    def forward(self) -> Tensor:
        """Return the dequantized weight."""
        state = bnb.QuantState(absmax=self.scale, code=self.code, blocksize=256, dtype=self.dtype)
        flat: Tensor = bnb.dequantize_blockwise(self.values, state)
        return flat.view(self.shape)


@dataclass(frozen=True)
class Contender:
    """One row of the table.

    Attributes:
        name: Printed name.
        apply: Quantizes a model in place and returns it.
        dtype: Data type of activations.
        needs: Package that provides it.
    """

    name: str
    apply: Callable[[nn.Module], nn.Module]
    dtype: torch.dtype = torch.float32
    needs: str = "torch"

    @property
    def installed(self) -> bool:
        """Return whether the package is installed."""
        return importlib.util.find_spec(self.needs.partition(".")[0]) is not None

    def applied(self, model: nn.Module) -> nn.Module:
        """Return a frozen quantized copy of the model in the contender's dtype."""
        copied = copy.deepcopy(model).to(self.dtype)
        return self.apply(copied).requires_grad_(False).eval()


def _blockwise(model: nn.Module) -> nn.Module:
    for layer in list(model.modules()):
        if is_quantizable(layer):
            replace_weight(layer, BlockwiseWeight(layer.weight))
    return model


def _linear_8bit(model: nn.Module) -> nn.Module:
    for name, layer in list(model.named_modules()):
        if type(layer) is nn.Linear:
            owner, _, attribute = name.rpartition(".")
            options: dict[str, Any] = {
                "bias": layer.bias is not None,
                "has_fp16_weights": False,
                "threshold": 0.0,
            }
            new = Linear8bitLt(layer.in_features, layer.out_features, **options)
            new.load_state_dict(layer.state_dict())
            setattr(model.get_submodule(owner), attribute, new.to(layer.weight.device))
    return model


def _torchao(model: nn.Module) -> nn.Module:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    quantize_(model, Int8WeightOnlyConfig(set_inductor_config=False))
    return model


def _quanto(model: nn.Module) -> nn.Module:
    from optimum.quanto import freeze, qint8, quantize

    quantize(model, weights=qint8)
    freeze(model)
    return model


CONTENDERS = (
    Contender("fp32", lambda model: model),
    Contender("bf16", lambda model: model, torch.bfloat16),
    Contender("fp16", lambda model: model, torch.float16),
    Contender("ours INT8", lambda model: quantize_model(model, precision="int8")),
    Contender("ours NF4", lambda model: quantize_model(model, precision="nf4")),
    Contender("ours INT8, bf16", lambda model: quantize_model(model, precision="int8"), torch.bfloat16),
    Contender("bitsandbytes 8-bit blockwise", _blockwise),
    Contender("bitsandbytes Linear8bitLt", _linear_8bit),
    Contender("torchao int8 weight-only", _torchao, needs="torchao"),
    Contender("optimum-quanto qint8", _quanto, needs="optimum.quanto"),
)


def dense_weight(layer: nn.Module) -> Tensor | None:
    """Return the dequantized weight of a contender's Linear or Conv2d; None for other layers."""
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        return None
    weight: Any = layer.weight
    if isinstance(layer, Linear8bitLt):
        scale = weight.SCB if layer.state.SCB is None else layer.state.SCB
        weight = weight.data.float() * scale.float()[:, None] / 127
    elif type(weight) not in (Tensor, nn.Parameter) and hasattr(weight, "dequantize"):
        weight = weight.dequantize()
    dense: Tensor = weight.detach()
    return dense


def size_bytes(model: nn.Module) -> int:
    """Return the bytes of parameters and buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in dense_tensors(model))


def dense_tensors(model: nn.Module) -> list[Tensor]:
    """Return parameters, buffers and bitsandbytes scales, with the parts of tensor subclasses."""
    tensors = [*model.parameters(), *model.buffers()]
    scales = [m.state.SCB for m in model.modules() if isinstance(m, Linear8bitLt) and m.state.SCB is not None]
    return [part for tensor in (*tensors, *scales) for part in _parts(tensor)]


def _parts(tensor: Any) -> list[Tensor]:
    if not hasattr(tensor, "__tensor_flatten__"):
        return [tensor]
    inner = [getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]]
    return [part for value in inner for part in _parts(value)]
