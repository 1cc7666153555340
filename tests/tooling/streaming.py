"""Writer of random weights to a safetensors file, which holds only one tensor in memory."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def random_tensor(name: str, like: Tensor, generator: torch.Generator) -> Tensor:
    """Return a random weight that keeps activations of order one.

    Weights are N(0, 1/fan_in), weights of norm layers are 1, and biases are N(0, 0.01²).
    """
    if name.endswith("bias"):
        return torch.randn(like.shape, generator=generator) * 0.01
    if like.ndim == 1:
        return torch.ones(like.shape)
    if name.endswith(("token_embedding.weight", "position_embedding.weight")):
        return torch.randn(like.shape, generator=generator) * (0.4 / math.sqrt(like.shape[-1]))  # as in SD1.5
    fan_in = math.prod(like.shape[1:])
    return torch.randn(like.shape, generator=generator) / math.sqrt(fan_in)


def write_random_weights(
    model: nn.Module,
    path: Path,
    *,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    rename: Callable[[str], str] = str,
) -> Path:
    """Write random weights for a model, which can be on the meta device; return the path.

    Args:
        model: Module with the names and shapes of the weights.
        path: Destination; its folder is created if it does not exist.
        dtype: Data type of the weights in the file.
        seed: Random seed.
        rename: Maps the name of a weight to its key in the file.
    """
    tensors: Mapping[str, Tensor] = model.state_dict()
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * dtype.itemsize
        header[rename(name)] = {
            "dtype": _NAMES[dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    generator = torch.Generator().manual_seed(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for name, tensor in tensors.items():
            values = random_tensor(name, tensor, generator).to(dtype).contiguous()
            file.write(values.view(torch.uint8).numpy().tobytes())
    return path
