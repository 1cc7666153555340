"""Checkpoints: written whole or not at all, read whole or refused."""

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
    """Write a file beside its place, then move it there: no reader ever sees half of it.

    Raises:
        CheckpointError: it cannot be written, for want of room, say; the file before is kept.
    """
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(half)
        half.replace(path)
    except (OSError, RuntimeError, SafetensorError) as failed:  # torch.save's own is a RuntimeError
        raise CheckpointError(f"{path} cannot be written: {in_one_line(failed)}") from failed
    finally:
        with suppress(OSError):  # none was begun
            half.unlink()


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """The state of a training, on disk."""
    replace_file(path, lambda half: torch.save(state, half))


def read_checkpoint(path: Path, part: str) -> dict[str, Any] | None:
    """The state that `write_checkpoint` wrote, or None if there is no file.

    Raises:
        CheckpointError: the file is truncated, or of another part of the training.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as broken:
        raise CheckpointError(
            f"the checkpoint {path} cannot be read (truncated?): remove it to train the part again"
        ) from broken
    found = state.get("part") if isinstance(state, dict) else None
    if found != part:
        raise CheckpointError(f"{path} is a checkpoint of {found!r}, not of {part!r}")
    return state


def write_weights(path: Path, weights: dict[str, torch.Tensor], dtype: torch.dtype = torch.float16) -> None:
    """Weights as safetensors, rounded to `dtype`."""
    rounded = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in weights.items()
    }
    replace_file(path, lambda half: save_file(rounded, half, metadata={"format": "pt"}))


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Weights of a safetensors file, as fp32.

    Raises:
        CheckpointError: the file is missing or truncated.
    """
    try:
        return {name: w.float() if w.is_floating_point() else w for name, w in load_file(path).items()}
    except (FileNotFoundError, SafetensorError) as broken:
        raise CheckpointError(f"the weights {path} cannot be read (missing or truncated)") from broken
