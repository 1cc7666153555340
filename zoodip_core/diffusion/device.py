"""Which device and number format to compute with, and how much memory that took."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch

from zoodip_core.errors import InvalidInputError


def choose_device(name: str | None) -> torch.device:
    """The named device, else CUDA where there is one, else the CPU.

    Raises:
        InvalidInputError: CUDA was asked for and there is none, or the name is no device.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidInputError(
            f"device: {name!r} is no device; allowed: cpu, cuda", field="device"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InvalidInputError("device: cuda was asked for, and no CUDA device is here", field="device")
    return device


def compute_dtype(device: torch.device, precision: str) -> torch.dtype:
    """Format of activations: fp16 on CUDA (bf16 beside NF4), fp32 on the CPU.

    The CPU stays at fp32 even where it has bfloat16: at μ = 1e-3 the rounding of bf16 is of the size of the loss
    differences that the search lives on (docs/quantization.md has the figures).

    Source: arXiv:2503.14868v1, Sec. 5.1 (bf16 activations with the INT4 U-Net)
    """
    if device.type != "cuda" or precision == "fp32":
        return torch.float32
    return torch.bfloat16 if precision == "nf4" else torch.float16


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory so far: of this process on the CPU (resident set), of the allocator on CUDA; in 10⁶ bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 1e6
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count the process that started this one, too
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes / 1e6
