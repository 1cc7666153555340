"""Choice of the device and the compute dtype, and measurement of peak memory."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch

from zoodip_core.errors import InvalidInputError


def choose_device(name: str | None) -> torch.device:
    """Return the named device. Without a name, return CUDA if it is available, else the CPU.

    Raises:
        InvalidInputError: the name is not a device, or CUDA is not available.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidInputError.mismatch("device", got=repr(name), expected="cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InvalidInputError.mismatch(
            "device", got=repr(name), expected="cpu, because no CUDA device is available"
        )
    return device


def compute_dtype(device: torch.device, precision: str) -> torch.dtype:
    """Return the dtype of activations: fp16 on CUDA (bf16 with NF4 weights), fp32 on the CPU.

    The CPU uses fp32 even if it supports bf16. At μ = 1e-3 the rounding error of bf16 is as large as the loss
    differences that the search measures (figures: docs/explanation/quantization.md).

    Source: arXiv:2503.14868v1, Sec. 5.1 (bf16 activations with the INT4 U-Net)
    """
    if device.type != "cuda" or precision == "fp32":
        return torch.float32
    return torch.bfloat16 if precision == "nf4" else torch.float16


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory so far in MB (10⁶ bytes).

    On the CPU it is the resident set of this process; on CUDA the memory that the allocator reserved.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 1e6
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would also count the parent process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes / 1e6
