"""Checkpoint files: the state of a search as safetensors, with the identity of its run in the header."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from zoodip_core.config import PersonalizationSettings
from zoodip_core.errors import InvalidCheckpointError
from zoodip_core.files import write_atomically
from zoodip_core.personalization.subject import Subject

IDENTITY = "zoodip.identity"
"""Key of the header that holds `identity`."""

_DIGEST = "zoodip.sha256"
"""Key of the header that holds the SHA-256 of the tensors."""


def identity(
    subject: Subject, settings: PersonalizationSettings, fingerprint: str, images: Sequence[Image.Image]
) -> str:
    """Return the SHA-256 of everything that a resumed run must share with the interrupted one."""
    digest = hashlib.sha256()
    facts = [subject.token, subject.initializer, subject.kind, subject.captions, fingerprint]
    # Files of versions without these settings keep their identity.
    later = {"search_space": "full", "masked_loss": False}
    omitted = {name for name, default in later.items() if getattr(settings, name) == default}
    digest.update(json.dumps([*facts, settings.model_dump(exclude=omitted)], sort_keys=True).encode())
    for image in images:
        digest.update(str(image.size).encode() + image.tobytes())
    return digest.hexdigest()


def save_checkpoint(state: dict[str, Tensor], path: Path, *, identity: str) -> None:
    """Write the state atomically: after a crash the file is the old checkpoint or the new one.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    write_state(state, path, {IDENTITY: identity})


def load_checkpoint(path: Path, *, identity: str) -> dict[str, Tensor]:
    """Read a state that `save_checkpoint` wrote.

    Raises:
        InvalidCheckpointError: the file is missing, damaged, or belongs to another run.
    """
    state, header = read_state(path)
    if header.get(IDENTITY) != identity:
        raise InvalidCheckpointError(
            f"checkpoint: {path} belongs to other images, other settings or another base model; "
            "resume with the same ones, or start a new run"
        )
    return state


def write_state(state: Mapping[str, Tensor], path: Path, header: dict[str, str]) -> None:
    """Write tensors, their digest and the texts of a header atomically.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    write_atomically(path, save(tensors, metadata={**header, _DIGEST: _digest(tensors)}))


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the header that `write_state` wrote.

    Raises:
        InvalidCheckpointError: the file is missing or damaged.
    """
    if not path.is_file():
        raise InvalidCheckpointError(f"checkpoint: {path} does not exist; there is nothing to resume")
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.offset_keys()}
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InvalidCheckpointError(f"checkpoint: {path} is damaged: {error}") from error
    if _DIGEST in header and header[_DIGEST] != _digest(state):  # files of earlier versions have no digest
        raise InvalidCheckpointError(f"checkpoint: {path} is damaged: its tensors do not match their digest")
    return state, header


def _digest(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
