"""Checkpoint files that changed on disk, and those of earlier versions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from zoodip_core.errors import InvalidCheckpointError
from zoodip_core.personalization.checkpoint import read_state, write_state

STATE = {
    "theta": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "step": torch.tensor(7),
    "none": torch.zeros(0),
}


def test_a_changed_bit_is_noticed(tmp_path: Path) -> None:
    """Each value of each tensor is covered by the digest."""
    path = tmp_path / "c.safetensors"
    write_state(STATE, path, {"key": "value"})
    content = path.read_bytes()
    first = len(content) - sum(tensor.nbytes for tensor in STATE.values())
    for at in range(first, len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(InvalidCheckpointError, match="is damaged: its tensors do not match their digest"):
            read_state(path)
    path.write_bytes(content)
    state, header = read_state(path)
    assert header["key"] == "value"
    assert all(torch.equal(state[name], tensor) for name, tensor in STATE.items())


def test_a_file_of_an_earlier_version_has_no_digest(tmp_path: Path) -> None:
    """Its tensors are read as they are."""
    path = tmp_path / "c.safetensors"
    save_file(STATE, path, {"key": "value"})
    state, header = read_state(path)
    assert header == {"key": "value"}
    assert torch.equal(state["theta"], STATE["theta"])
