"""Choice of the device and the compute dtype, and the memory of the device."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch

from zoodip_core.errors import InvalidInputError

_TRACKED = ("cuda", "xpu")
"""Device types whose allocator records its peak."""


def available_devices() -> list[str]:
    """Return the names that `choose_device` accepts here: `cpu`, then the accelerator without and with an index."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return ["cpu"]
    kind = accelerator.type
    return ["cpu", kind, *(f"{kind}:{index}" for index in range(torch.accelerator.device_count()))]


def choose_device(name: str | None) -> torch.device:
    """Return the named device. Without a name, return CUDA if it is available, else the CPU.

    Args:
        name: one of `available_devices()`, in this spelling.

    Raises:
        InvalidInputError: torch finds no such device here; the message lists the available ones.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    available = available_devices()
    if name not in available:
        raise InvalidInputError.mismatch("device", got=repr(name), expected=_describe(available))
    return torch.device(name)


def _describe(available: list[str]) -> str:
    if len(available) == 1:
        return f"{available[0]}, the only device that torch finds here"
    return f"{', '.join(available[:-1])} or {available[-1]}, the devices that torch finds here"


def compute_dtype(device: torch.device, precision: str) -> torch.dtype:
    """Return the dtype of activations: fp16 on CUDA (bf16 with NF4 weights), fp32 on other devices.

    The CPU uses fp32 even if it supports bf16. At μ = 1e-3 the rounding error of bf16 is as large as the loss
    differences that the search measures (figures: docs/explanation/quantization.md). Devices other than CPU and
    CUDA use fp32, too, because the search is not measured on them.

    Source: arXiv:2503.14868v1, Sec. 5.1 (bf16 activations with the INT4 U-Net)
    """
    if device.type != "cuda" or precision == "fp32":
        return torch.float32
    return torch.bfloat16 if precision == "nf4" else torch.float16


def empty_cache(device: torch.device) -> None:
    """Return the cached memory of an accelerator to its driver; do nothing on the CPU."""
    if device.type != "cpu":
        torch.get_device_module(device).empty_cache()


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor to the device. On CUDA the copy is pinned, so the CPU does not wait for the device."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory so far in MB (10⁶ bytes).

    On CUDA and XPU it is the memory that the allocator reserved. On the CPU and on MPS, which share memory, it is
    the resident set of this process.
    """
    if device.type in _TRACKED:
        return int(torch.get_device_module(device).max_memory_reserved(device)) / 1e6
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would also count the parent process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes / 1e6
