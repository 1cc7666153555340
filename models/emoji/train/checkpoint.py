"""Write checkpoints and weights atomically and validate them when they are read."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from models.emoji.errors import CheckpointError, in_one_line


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a temporary file in the same folder and rename it, so that no reader sees a partial file.

    Raises:
        CheckpointError: writing failed. The previous file is kept.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        temporary.replace(path)
    except (OSError, RuntimeError, SafetensorError) as failed:  # torch.save raises RuntimeError
        raise CheckpointError(f"{path}: cannot write: {in_one_line(failed)}") from failed
    finally:
        with suppress(OSError):  # already renamed or never created
            temporary.unlink()


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write the state of a training."""
    replace_file(path, lambda temporary: torch.save(state, temporary))


def read_checkpoint(path: Path, part: str) -> dict[str, Any] | None:
    """Read the state of a training; None if there is no file.

    Raises:
        CheckpointError: the file is truncated, or of another part.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as broken:
        raise CheckpointError(
            f"{path}: cannot read the checkpoint (truncated?); remove it to train the part again"
        ) from broken
    found = state.get("part") if isinstance(state, dict) else None
    if found != part:
        raise CheckpointError(f"{path}: got a checkpoint of {found!r}; expected {part!r}")
    return state


def write_weights(path: Path, weights: dict[str, torch.Tensor], dtype: torch.dtype = torch.float16) -> None:
    """Write weights as safetensors, rounded to `dtype`."""
    rounded = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in weights.items()
    }
    replace_file(path, lambda temporary: save_file(rounded, temporary, metadata={"format": "pt"}))


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read the weights of a safetensors file in fp32.

    Raises:
        CheckpointError: the file is missing or truncated.
    """
    try:
        return {name: w.float() if w.is_floating_point() else w for name, w in load_file(path).items()}
    except (FileNotFoundError, SafetensorError) as broken:
        raise CheckpointError(f"{path}: cannot read the weights (missing or truncated)") from broken
