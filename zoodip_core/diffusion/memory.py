"""Recognizes that memory ran out, and turns it into a typed error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from zoodip_core.diffusion.device import empty_cache
from zoodip_core.errors import OutOfMemoryError

_MESSAGES = (
    "can't allocate memory",  # torch's allocator on the CPU
    "not enough memory",  # the same on Windows
    "out of memory",  # CUDA's driver and MPS; CUDA's allocator raises torch.OutOfMemoryError
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the error says that memory ran out on the CPU or on an accelerator."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)


@contextmanager
def typed_out_of_memory(action: str) -> Iterator[None]:
    """Raise a typed error if memory runs out inside the block. Other errors pass unchanged.

    Args:
        action: what the block does, as the subject of the message: "Encoding the images".

    Raises:
        OutOfMemoryError: memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        accelerator = torch.accelerator.current_accelerator()
        if accelerator is not None:
            empty_cache(accelerator)
        raise OutOfMemoryError(f"{action} does not fit in the memory of the device") from error
