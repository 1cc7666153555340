"""The device of a training and the number format that is fast on it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor

Network = Any  # a model of diffusers or transformers: their classes carry no types


def batches(rows: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    """The rows, `size` at a time."""
    for first in range(0, len(rows), size):
        yield rows[first : first + size]


def best_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def native_bf16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 itself; emulated, it is many times slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def autocast(device: torch.device) -> AbstractContextManager[None]:
    """Bfloat16 where it is native, else the format that the tensors have."""
    return torch.autocast(device.type, torch.bfloat16, enabled=native_bf16(device))


def plain_attention(*models: Network) -> None:
    """Let attention be matrix products where there is no GPU.

    On a CPU the backward pass of the fused kernel takes a third of a step: without it, 84 pictures a processor
    second instead of 53.
    """
    if torch.cuda.is_available():
        return
    for model in models:
        if hasattr(model, "set_attn_processor"):
            model.set_attn_processor(AttnProcessor())
        else:
            model.set_attn_implementation("eager")
