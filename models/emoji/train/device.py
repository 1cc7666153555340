"""Device of a training, mixed precision and attention implementation."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor

Network = Any  # a model of diffusers or transformers, which have no type annotations


def batches(rows: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    """Yield slices of `size` rows."""
    for first in range(0, len(rows), size):
        yield rows[first : first + size]


def best_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def native_bf16(device: torch.device) -> bool:
    """Return whether the device supports bfloat16 natively. Emulation is many times slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def autocast(device: torch.device) -> AbstractContextManager[None]:
    """Return an autocast context: bfloat16 if it is native, else disabled."""
    return torch.autocast(device.type, torch.bfloat16, enabled=native_bf16(device))


def plain_attention(*models: Network) -> None:
    """Replace fused attention by plain matrix products on a CPU.

    The backward pass of the fused kernel takes a third of a step on a CPU. Without it the training processes 84
    instead of 53 pictures per processor second.
    """
    if torch.cuda.is_available():
        return
    for model in models:
        if hasattr(model, "set_attn_processor"):
            model.set_attn_processor(AttnProcessor())
        else:
            model.set_attn_implementation("eager")
